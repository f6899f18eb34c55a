"""Runs that are polled on after their client's deadline, and whose creation the store has not confirmed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from gateway.clock import Clock
from gateway.runs.catalog import Workflow
from gateway.runs.model import RunRecord
from gateway.store.contract import ContentUnreadable, Store, StoreUnavailable
from gateway.store.records import Phase, StoredRun

_RETRY_INTERVAL = 1.0  # seconds
_MAX_RUNS = 10_000  # during an outage; of the others a later process adopts those that the store has


@dataclass(slots=True)
class UnconfirmedRuns:
    """Follows those of the runs that the store has: it says that this process, `owner`, polls them.

    `follow` is called with the record, the workflow and the stored run.
    """

    store: Store
    clock: Clock
    owner: str
    follow: Callable[[RunRecord, Workflow, StoredRun], None]
    _runs: dict[str, tuple[RunRecord, Workflow]] = field(default_factory=dict)
    _task: asyncio.Task[None] | None = None

    def look_up_later(self, record: RunRecord, workflow: Workflow) -> None:
        """Follow a run, if the store has it, as soon as the store is available."""
        if len(self._runs) < _MAX_RUNS:
            self._runs[record.id] = record, workflow
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._look_up_pending())

    def close(self) -> None:
        """Leave the runs to the replica that adopts them."""
        if self._task is not None:
            self._task.cancel()

    async def _look_up_pending(self) -> None:
        while self._runs:
            await self.clock.sleep(_RETRY_INTERVAL)
            try:
                for run_id in list(self._runs):
                    stored = await self._get_run(run_id)
                    record, workflow = self._runs.pop(run_id)
                    if stored is not None and stored.phase is Phase.FOLLOWING and stored.owner == self.owner:
                        self.follow(record, workflow, stored)
            except StoreUnavailable:
                continue

    async def _get_run(self, run_id: str) -> StoredRun | None:
        try:
            return await self.store.get_run(run_id)
        except ContentUnreadable:
            return None
