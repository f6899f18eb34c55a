"""The callbacks of the store in memory: what is to be delivered, and when."""

from __future__ import annotations

from dataclasses import dataclass, replace
from heapq import nsmallest

from gateway.store.contract import Delivery


@dataclass(frozen=True, slots=True)
class _Callback:
    delivery: Delivery
    due_at: float | None  # None: delivered, or given up


class Callbacks:
    """By the id of their run. Callbacks that are settled stay until their run is forgotten."""

    def __init__(self) -> None:
        self._all: dict[str, _Callback] = {}

    def add(self, delivery: Delivery, *, due_at: float) -> None:
        """Keep a new one."""
        self._all[delivery.run_id] = _Callback(delivery, due_at)

    def take(self, *, now_at: float, until_at: float, limit: int) -> list[Delivery]:
        """See `Store.due`."""
        pending = [(each.due_at, run_id) for run_id, each in self._all.items() if each.due_at is not None]
        taken = [run_id for due_at, run_id in nsmallest(limit, pending) if due_at <= now_at]
        for run_id in taken:
            self._all[run_id] = replace(self._all[run_id], due_at=until_at)
        return [self._all[run_id].delivery for run_id in taken]

    def pending(self, run_id: str) -> bool:
        """Whether it is still to be delivered."""
        return run_id in self._all and self._all[run_id].due_at is not None

    def settle(self, run_id: str) -> None:
        """Nothing is to be done any more."""
        self._all[run_id] = replace(self._all[run_id], due_at=None)

    def postpone(self, run_id: str, due_at: float) -> None:
        """See `Store.postpone`."""
        if not self.pending(run_id):
            raise KeyError(run_id)
        delivery = self._all[run_id].delivery
        self._all[run_id] = _Callback(replace(delivery, attempts=delivery.attempts + 1), due_at)

    def revive(self, run_id: str, now_at: float) -> bool:
        """See `Store.redeliver`."""
        if run_id not in self._all:
            return False
        self._all[run_id] = _Callback(replace(self._all[run_id].delivery, attempts=0), now_at)
        return True

    def forget(self, run_id: str) -> None:
        """Its run is gone."""
        self._all.pop(run_id, None)
