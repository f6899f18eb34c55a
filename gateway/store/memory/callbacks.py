"""Callbacks of the memory store."""

from __future__ import annotations

from dataclasses import dataclass, replace
from heapq import nsmallest

from gateway.store.records import Delivery


@dataclass(frozen=True, slots=True)
class _ScheduledCallback:
    delivery: Delivery
    body: bytes
    due_at: float | None  # None: settled
    written_at: float


class ScheduledCallbacks:
    """Callbacks by the id of their run. Settled callbacks are kept until their run is deleted."""

    def __init__(self) -> None:
        self._callbacks: dict[str, _ScheduledCallback] = {}

    def add(self, delivery: Delivery, body: bytes, *, due_at: float) -> None:
        """Add a callback."""
        self._callbacks[delivery.run_id] = _ScheduledCallback(delivery, body, due_at, written_at=delivery.created_at)

    def take_due(self, *, now_at: float, until_at: float, limit: int, latest_at: float) -> list[Delivery]:
        """Implement `Store.take_due_callbacks`."""
        for run_id, each in self._callbacks.items():
            if each.due_at is not None and each.written_at > latest_at:
                self._callbacks[run_id] = replace(each, due_at=now_at, written_at=now_at)
        pending = [(each.due_at, run_id) for run_id, each in self._callbacks.items() if each.due_at is not None]
        taken = [run_id for due_at, run_id in nsmallest(limit, pending) if due_at <= now_at]
        for run_id in taken:
            self._callbacks[run_id] = replace(self._callbacks[run_id], due_at=until_at, written_at=now_at)
        return [replace(self._callbacks[run_id].delivery, taken_until_at=until_at) for run_id in taken]

    def load(self, delivery: Delivery, until_at: float) -> bytes | None:
        """Implement `Store.load_callback`."""
        callback = self._callbacks.get(delivery.run_id)
        expected = (delivery.revision, delivery.taken_until_at)
        if callback is None or (callback.delivery.revision, callback.due_at) != expected:
            return None
        self._callbacks[delivery.run_id] = replace(callback, due_at=until_at)
        return callback.body

    def next_revision(self, run_id: str) -> int:
        """Return the revision of the next callback of a run."""
        return self._callbacks[run_id].delivery.revision + 1 if run_id in self._callbacks else 0

    def is_pending(self, run_id: str, revision: int | None = None) -> bool:
        """Return True if the run has a callback, of this revision if one is given, that is not settled."""
        callback = self._callbacks.get(run_id)
        if callback is None or callback.due_at is None:
            return False
        return revision is None or callback.delivery.revision == revision

    def settle(self, run_id: str) -> None:
        """Mark a callback as settled."""
        self._callbacks[run_id] = replace(self._callbacks[run_id], due_at=None)

    def postpone(self, run_id: str, due_at: float, revision: int) -> None:
        """Implement `Store.postpone_callback`."""
        if not self.is_pending(run_id, revision):
            raise KeyError(run_id)
        callback = self._callbacks[run_id]
        counted = replace(callback.delivery, attempts=callback.delivery.attempts + 1)
        self._callbacks[run_id] = replace(callback, delivery=counted, due_at=due_at)

    def redeliver(self, run_id: str, now_at: float) -> bool:
        """Implement `Store.redeliver_callback`."""
        if run_id not in self._callbacks:
            return False
        callback = self._callbacks[run_id]
        self._callbacks[run_id] = replace(
            callback, delivery=replace(callback.delivery, attempts=0), due_at=now_at, written_at=now_at
        )
        return True

    def remove(self, run_id: str) -> None:
        """Delete the callback of a run, if it has one."""
        self._callbacks.pop(run_id, None)
