"""Runs that never were: what was kept for them is dropped, later where the store can not do it now."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field

from structlog.typing import FilteringBoundLogger

from gateway.clock import Clock
from gateway.store.contract import Store, StoreUnavailable

_RETRY_INTERVAL = 1.0  # seconds
_MAX_PENDING = 10_000  # of an outage; what is beyond is found by the next process


@dataclass(slots=True)
class PendingDeletes:
    """Drops runs of `owner`, so that their keys are free. One task does what was left undone, however much that is."""

    store: Store
    clock: Clock
    log: FilteringBoundLogger
    owner: str
    _run_ids: deque[str] = field(default_factory=lambda: deque(maxlen=_MAX_PENDING))
    _task: asyncio.Task[None] | None = None

    async def delete(self, run_id: str) -> None:
        """Drop a run now, or as soon as the store can."""
        try:
            await self.store.discard_run(run_id, owner=self.owner)
        except StoreUnavailable:
            self.log.warning("not_written", run_id=run_id, phase="dropped")
            self.delete_later(run_id)

    def delete_later(self, run_id: str) -> None:
        """Drop a run, if it was kept at all, as soon as the store can."""
        self._run_ids.append(run_id)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._delete_pending())

    def is_pending(self, run_id: str) -> bool:
        """Whether a run is still to be dropped."""
        return run_id in self._run_ids

    async def close(self) -> None:
        """Drop what can be dropped now: whoever comes next would start what its client was told is not run."""
        if self._task is not None:
            self._task.cancel()
        final_deletes = (self.store.discard_run(run_id, owner=self.owner) for run_id in self._run_ids)
        await asyncio.gather(*final_deletes, return_exceptions=True)

    async def _delete_pending(self) -> None:
        while self._run_ids:
            await self.clock.sleep(_RETRY_INTERVAL)
            try:
                while self._run_ids:
                    await self.store.discard_run(self._run_ids[0], owner=self.owner)
                    self._run_ids.popleft()
            except StoreUnavailable:
                continue
