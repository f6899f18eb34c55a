"""Results that no client collected: of runs through PromptLayer's API, whose clients fetch the result by themselves.

A process watches the runs that ended in it, in memory. With a shared store, any replica may return a result, so the
first one marks the run in the store, and a run counts as uncollected only if it has no mark.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field

from gateway.clock import Clock
from gateway.observability.logger_protocol import Logger
from gateway.runs.model import RunRecord
from gateway.store.contract import Store, StoreUnavailable
from gateway.store.records import StoredRun

COLLECTION_TIME = 300.0
"""Seconds after the end of a run in which its client is expected to fetch the result."""
_CHECK_INTERVAL = 10.0
_MAX_WATCHED = 10_000  # runs; the oldest ones beyond are not watched


async def ignore_result(_run_id: str) -> None:
    """Do nothing."""


@dataclass(frozen=True, slots=True)
class _EndedRun:
    due: float
    client: str
    workflow: str
    provider: str
    outcome: str


@dataclass(slots=True)
class CollectionWatch:
    """Watch of the runs that ended in this process. `report` counts an uncollected result, by provider."""

    store: Store
    clock: Clock
    log: Logger
    report: Callable[[str], None]
    _waiting: dict[str, _EndedRun] = field(default_factory=dict)  # by run id, in the order of their ends

    def run_ended(self, record: RunRecord, stored: StoredRun) -> None:
        """Watch a run whose end is about to be stored. A run with a callback, or that was not started, is not."""
        if record.spec.api != "promptlayer" or stored.callback_url is not None or record.status == "not_run":
            return
        due = self.clock.monotonic() + COLLECTION_TIME
        self._waiting[record.id] = _EndedRun(
            due, record.spec.client, record.spec.workflow, record.provider, record.status
        )
        if len(self._waiting) > _MAX_WATCHED:
            del self._waiting[next(iter(self._waiting))]

    async def result_collected(self, run_id: str) -> None:
        """Note that a client is about to receive the result of a run that has ended.

        If the mark cannot be stored, the result is returned all the same; another replica may then report it.
        """
        if self.store.shared:
            with contextlib.suppress(StoreUnavailable):
                await self.store.mark_collected(run_id)
        self._waiting.pop(run_id, None)

    async def report_due(self) -> None:
        """Report the runs whose time has passed. While a shared store is unavailable, nothing is reported."""
        now = self.clock.monotonic()
        for run_id, run in [item for item in self._waiting.items() if item[1].due <= now]:
            try:
                collected = self.store.shared and not await self.store.mark_collected(run_id)
            except StoreUnavailable:
                return
            if self._waiting.pop(run_id, None) is not None and not collected:
                self.report(run.provider)
                self.log.warning(
                    "result_not_collected",
                    run_id=run_id,
                    client=run.client,
                    workflow=run.workflow,
                    provider=run.provider,
                    outcome=run.outcome,
                )

    async def run_forever(self) -> None:
        """Report due runs every `_CHECK_INTERVAL` seconds."""
        while True:
            await self.clock.sleep(_CHECK_INTERVAL)
            await self.report_due()
