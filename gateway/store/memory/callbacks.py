"""The callbacks of the store in memory: what is to be delivered, and when."""

from __future__ import annotations

from dataclasses import dataclass, replace
from heapq import nsmallest

from gateway.store.contract import Delivery


@dataclass(frozen=True, slots=True)
class _ScheduledCallback:
    delivery: Delivery
    due_at: float | None  # None: delivered, or given up


class MemoryCallbacks:
    """By the id of their run. Callbacks that are settled stay until their run is forgotten."""

    def __init__(self) -> None:
        self._callbacks: dict[str, _ScheduledCallback] = {}

    def add(self, delivery: Delivery, *, due_at: float) -> None:
        """Keep a new one."""
        self._callbacks[delivery.run_id] = _ScheduledCallback(delivery, due_at)

    def take_due(self, *, now_at: float, until_at: float, limit: int) -> list[Delivery]:
        """See `Store.due`."""
        pending = [(each.due_at, run_id) for run_id, each in self._callbacks.items() if each.due_at is not None]
        taken = [run_id for due_at, run_id in nsmallest(limit, pending) if due_at <= now_at]
        for run_id in taken:
            self._callbacks[run_id] = replace(self._callbacks[run_id], due_at=until_at)
        return [self._callbacks[run_id].delivery for run_id in taken]

    def is_pending(self, run_id: str) -> bool:
        """Whether it is still to be delivered."""
        return run_id in self._callbacks and self._callbacks[run_id].due_at is not None

    def settle(self, run_id: str) -> None:
        """Nothing is to be done any more."""
        self._callbacks[run_id] = replace(self._callbacks[run_id], due_at=None)

    def postpone(self, run_id: str, due_at: float) -> None:
        """See `Store.postpone`."""
        if not self.is_pending(run_id):
            raise KeyError(run_id)
        delivery = self._callbacks[run_id].delivery
        self._callbacks[run_id] = _ScheduledCallback(replace(delivery, attempts=delivery.attempts + 1), due_at)

    def redeliver(self, run_id: str, now_at: float) -> bool:
        """See `Store.redeliver`."""
        if run_id not in self._callbacks:
            return False
        self._callbacks[run_id] = _ScheduledCallback(replace(self._callbacks[run_id].delivery, attempts=0), now_at)
        return True

    def remove(self, run_id: str) -> None:
        """Its run is gone."""
        self._callbacks.pop(run_id, None)
