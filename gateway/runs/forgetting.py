"""Runs that never were: what was kept for them is dropped, later where the store can not do it now."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field

from structlog.typing import FilteringBoundLogger

from gateway.clock import Clock
from gateway.store.contract import Store, StoreUnavailable

_RETRY = 1.0  # seconds
_MOST = 10_000  # of an outage; what is beyond is found by the next process


@dataclass(slots=True)
class Forgetting:
    """Drops runs of `owner`, so that their keys are free. One task does what was left undone, however much that is."""

    store: Store
    clock: Clock
    log: FilteringBoundLogger
    owner: str
    _left: deque[str] = field(default_factory=lambda: deque(maxlen=_MOST))
    _task: asyncio.Task[None] | None = None

    async def drop(self, run_id: str) -> None:
        """Drop a run now, or as soon as the store can."""
        try:
            await self.store.drop(run_id, owner=self.owner)
        except StoreUnavailable:
            self.log.warning("not_written", run_id=run_id, phase="dropped")
            self.drop_later(run_id)

    def drop_later(self, run_id: str) -> None:
        """Drop a run, if it was kept at all, as soon as the store can."""
        self._left.append(run_id)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._work_off())

    def has(self, run_id: str) -> bool:
        """Whether a run is still to be dropped."""
        return run_id in self._left

    async def close(self) -> None:
        """Drop what can be dropped now: whoever comes next would start what its client was told is not run."""
        if self._task is not None:
            self._task.cancel()
        last_words = (self.store.drop(run_id, owner=self.owner) for run_id in self._left)
        await asyncio.gather(*last_words, return_exceptions=True)

    async def _work_off(self) -> None:
        while self._left:
            await self.clock.sleep(_RETRY)
            try:
                while self._left:
                    await self.store.drop(self._left[0], owner=self.owner)
                    self._left.popleft()
            except StoreUnavailable:
                continue
