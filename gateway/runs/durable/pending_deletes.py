"""Pending deletes: stored runs that were rejected before dispatch, deleted as soon as the store is available."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field

from gateway.clock import Clock
from gateway.observability.logger_protocol import Logger
from gateway.store.contract import Store, StoreUnavailable

_RETRY_INTERVAL = 1.0  # seconds
_MAX_PENDING = 10_000  # during an outage; recovery finds the others


@dataclass(slots=True)
class PendingDeletes:
    """Deletes runs of `owner`, so that their keys are free; one task retries all deletes that failed."""

    store: Store
    clock: Clock
    log: Logger
    owner: str
    _run_ids: deque[str] = field(default_factory=lambda: deque(maxlen=_MAX_PENDING))
    _task: asyncio.Task[None] | None = None

    async def delete(self, run_id: str) -> bool:
        """Delete a run now, or as soon as the store is available. Returns True if the store has deleted it."""
        try:
            await self.store.discard_run(run_id, owner=self.owner)
        except StoreUnavailable:
            self.log.warning("not_written", run_id=run_id, phase="dropped")
            self.delete_later(run_id)
            return False
        return True

    def delete_later(self, run_id: str) -> None:
        """Delete a run, if the store has it, as soon as the store is available."""
        self._run_ids.append(run_id)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._delete_pending())

    def is_pending(self, run_id: str) -> bool:
        """Return whether the delete of a run is pending."""
        return run_id in self._run_ids

    async def close(self) -> None:
        """Delete what can be deleted now: a process that adopts such a run would start it."""
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
