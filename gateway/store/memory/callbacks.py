"""Outbox of callbacks of the memory store."""

from __future__ import annotations

from dataclasses import dataclass, replace
from heapq import nsmallest

from gateway.store.contract import Delivery


@dataclass(frozen=True, slots=True)
class _ScheduledCallback:
    delivery: Delivery
    due_at: float | None  # None: settled


class MemoryCallbacks:
    """Callbacks by the id of their run. Settled callbacks are kept until their run is deleted."""

    def __init__(self) -> None:
        self._callbacks: dict[str, _ScheduledCallback] = {}

    def add(self, delivery: Delivery, *, due_at: float) -> None:
        """Add a callback."""
        self._callbacks[delivery.run_id] = _ScheduledCallback(delivery, due_at)

    def take_due(self, *, now_at: float, until_at: float, limit: int) -> list[Delivery]:
        """Implement `Store.take_due_callbacks`."""
        pending = [(each.due_at, run_id) for run_id, each in self._callbacks.items() if each.due_at is not None]
        taken = [run_id for due_at, run_id in nsmallest(limit, pending) if due_at <= now_at]
        for run_id in taken:
            self._callbacks[run_id] = replace(self._callbacks[run_id], due_at=until_at)
        return [self._callbacks[run_id].delivery for run_id in taken]

    def is_pending(self, run_id: str) -> bool:
        """Return True if the run has a callback that is not settled."""
        return run_id in self._callbacks and self._callbacks[run_id].due_at is not None

    def settle(self, run_id: str) -> None:
        """Mark a callback as settled."""
        self._callbacks[run_id] = replace(self._callbacks[run_id], due_at=None)

    def postpone(self, run_id: str, due_at: float) -> None:
        """Implement `Store.postpone_callback`."""
        if not self.is_pending(run_id):
            raise KeyError(run_id)
        delivery = self._callbacks[run_id].delivery
        self._callbacks[run_id] = _ScheduledCallback(replace(delivery, attempts=delivery.attempts + 1), due_at)

    def redeliver(self, run_id: str, now_at: float) -> bool:
        """Implement `Store.redeliver_callback`."""
        if run_id not in self._callbacks:
            return False
        self._callbacks[run_id] = _ScheduledCallback(replace(self._callbacks[run_id].delivery, attempts=0), now_at)
        return True

    def remove(self, run_id: str) -> None:
        """Delete the callback of a run, if it has one."""
        self._callbacks.pop(run_id, None)
