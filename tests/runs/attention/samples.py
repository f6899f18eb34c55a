"""Contexts for the tests of sources."""

from __future__ import annotations

from typing import Any

from gateway.observability.metrics import Metrics
from gateway.runs.attention.items import AttentionConfig, AttentionContext
from gateway.store.contract import Store
from gateway.store.history import HistoryEntry
from gateway.store.records import Phase, StoredRun
from tests.store.samples import new_run


def context(
    store: Store, now_at: float, *, metrics: Metrics | None = None, config: AttentionConfig | None = None, **more: Any
) -> AttentionContext:
    """Return a context."""
    return AttentionContext(store, metrics or Metrics(), config or AttentionConfig(), now_at, **more)


def ended(number: int, status: str = "unknown", **changes: Any) -> StoredRun:
    """Return a run that was not durable, and has ended a second after its creation."""
    run = new_run(number, phase=Phase.DONE, status=status, order=b"", owner="", durable=False, **changes)
    run.finished_at = run.created_at + 1
    return run


async def add_ended(store: Store, *runs: StoredRun) -> None:
    """Record runs that have ended."""
    await store.add_history([HistoryEntry(run) for run in runs])
