"""History: a record of each run that is not durable, written to the store behind its response, in groups.

A run is never delayed: while the store is slow or unavailable, records wait in a bounded queue, and are dropped and
counted once it is full.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from gateway.clock import Clock
from gateway.errors import RunError
from gateway.observability import json_logging
from gateway.observability.logger_protocol import Logger
from gateway.runs.durable.codec import encode_record_details
from gateway.runs.model import RunRecord
from gateway.store.contract import Phase, Store, StoredRun, StoreUnavailable
from gateway.store.history import HistoryEntry

HistoryMode: TypeAlias = Literal["all", "kept", "none"]
"""Recorded runs: all; the durable ones only, with their timelines; or none: durable runs have no timeline either."""

RunErrorText: TypeAlias = tuple[str, str | None]
"""Code and detail of the error that a run ended with."""

_INTERVAL = 0.5  # seconds between two groups
_GROUP = 500  # records in one transaction
_MAX_PENDING = 10_000  # records that wait for the store
_CLOSE_TIMEOUT = 2.0  # seconds


@dataclass(frozen=True, slots=True)
class HistoryConfig:
    """Which runs are recorded, for how many seconds, and how many at most."""

    keep: HistoryMode = "all"
    retention: float = 7 * 86400.0
    most: int = 1_000_000


@dataclass(slots=True)
class HistoryRecorder:
    """Recorder of the runs of this process. `count_dropped` is called with the number of records that are dropped."""

    store: Store
    clock: Clock
    log: Logger
    count_dropped: Callable[[int], None]
    config: HistoryConfig = HistoryConfig()
    _pending: deque[tuple[RunRecord, RunErrorText | None]] = field(default_factory=deque)
    _failing: bool = False

    def record(self, run: RunRecord, error: RunError | None = None) -> None:
        """Record a run that has ended and is not durable; `error` is what it ended with.

        To be called once the response is rendered: the run loses its output and its input.
        """
        if self.config.keep != "all":
            return
        if len(self._pending) >= _MAX_PENDING:
            self.count_dropped(1)
            return
        run.output = run.outputs = run.raw_errors = None
        run.spec.input = {}
        self._pending.append((run, None if error is None else (error.code, error.detail or None)))

    def keeps_timelines(self) -> bool:
        """Return whether durable runs have a timeline."""
        return self.config.keep != "none"

    def reconfigure(self, config: HistoryConfig) -> None:
        """Apply another configuration to the runs that end from now on, and to the next purge."""
        self.config = config

    async def run_forever(self) -> None:
        """Write what is pending, again and again."""
        while True:
            await self.clock.sleep(_INTERVAL)
            try:
                await self.write_pending()
            except Exception as error:  # noqa: BLE001 - a defect must not end the loop
                self.log.error("internal_error", **json_logging.describe_exception(error))

    async def write_pending(self) -> None:
        """Write all pending records, in groups. While the store is unavailable they stay pending."""
        while self._pending:
            group = [self._pending[number] for number in range(min(_GROUP, len(self._pending)))]
            entries = [_entry(run, error) for run, error in group]
            try:
                await self.store.add_history(entries)
            except StoreUnavailable:
                if not self._failing:
                    self.log.warning("not_written", phase="history")
                self._failing = True
                return
            self._failing = False
            for _ in group:
                self._pending.popleft()

    async def close(self) -> None:
        """Write what can be written now, and drop the rest."""
        writing = asyncio.ensure_future(self.write_pending())
        await asyncio.wait((writing,), timeout=_CLOSE_TIMEOUT)
        writing.cancel()
        if self._pending:
            self.count_dropped(len(self._pending))
            self._pending.clear()

    async def purge(self) -> None:
        """Delete records that are too old, or too many. Raises StoreUnavailable."""
        before = self.clock.now().timestamp() - self.config.retention
        await self.store.purge_history(before_at=before, most=self.config.most)


def _entry(run: RunRecord, error: RunErrorText | None) -> HistoryEntry:
    """Return the record of a run that has ended."""
    created_at = run.created_at.timestamp()
    finished_at = created_at + run.duration
    timeline = run.take_events(run.started_monotonic + run.duration, "ended", run.status, error and error[0])
    stored = StoredRun(
        id=run.id,
        client=run.spec.client,
        workflow=run.spec.workflow,
        provider=run.provider,
        order=b"",
        created_at=created_at,
        deadline_at=created_at + run.spec.timeout,
        owner="",
        leased_until_at=0.0,
        phase=Phase.DONE,
        status=run.status,
        attempts=run.attempts,
        provider_run_id=run.provider_run_id,
        finished_at=finished_at,
        details=encode_record_details(run, error),
        durable=False,
    )
    return HistoryEntry(stored, run.spec.tags, timeline)
