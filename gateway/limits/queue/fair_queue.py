"""Who waits for a provider, and who is next: pure order, without time."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, field
from typing import Protocol

from gateway.errors import RunError
from gateway.limits.shared_limiter import SharedLimiter


class WaitQueue(Protocol):
    """Where waiters stand."""

    def add(self, waiter: Waiter) -> None:
        """Stand at the end."""

    def remove(self, waiter: Waiter) -> None:
        """Go, from anywhere in it."""


@dataclass(slots=True, eq=False)
class Waiter:
    """One request or call that waits for its turn; times are monotonic seconds.

    `patience` is how many seconds it waits for a start, None: as long as the limits say (`Limits.admit`).
    `take` takes all that it needs, or says why it can not; `undo` gives that back. The lane sets the rest: `place` is
    where it stands, `blocker` what it found closed, `ends` when it gives up (at its deadline or earlier), and `turn`
    ends with the Problem that ends the wait, or with None once `take` has been done.
    """

    client: str
    workflow: SharedLimiter
    arrived_at: float
    deadline: float
    acquire: Callable[[float], RunError | None]
    undo: Callable[[], None]
    still_wanted: Callable[[], bool]
    max_wait: float | None = None
    future: asyncio.Future[RunError | None] = field(init=False)
    expires_at: float = field(init=False)
    queue: WaitQueue = field(init=False)
    blocker: SharedLimiter = field(init=False)
    settled: bool = False

    @property
    def in_background(self) -> bool:
        """Whether it says itself how long it waits, because nobody stands at the door."""
        return self.max_wait is not None


class FifoQueue:
    """First come, first served."""

    def __init__(self) -> None:
        self._waiters: OrderedDict[Waiter, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._waiters)

    def add(self, waiter: Waiter) -> None:
        """See `Place`."""
        self._waiters[waiter] = None

    def remove(self, waiter: Waiter) -> None:
        """See `Place`."""
        del self._waiters[waiter]

    def first(self) -> Waiter | None:
        """The one that came first."""
        return next(iter(self._waiters), None)


class ClientQueue:
    """The waiters of one client: those in a hurry and the patient ones take turns, each first come first served."""

    __slots__ = ("queues_by_class",)

    def __init__(self) -> None:
        self.queues_by_class: OrderedDict[bool, dict[SharedLimiter, FifoQueue]] = (
            OrderedDict()
        )  # by `Waiter.patient`, in the order of turns

    def add(self, waiter: Waiter) -> None:
        """See `Place`."""
        queues = self.queues_by_class.setdefault(waiter.in_background, {})
        queues.setdefault(waiter.workflow, FifoQueue()).add(waiter)

    def remove(self, waiter: Waiter) -> None:
        """See `Place`."""
        queues = self.queues_by_class[waiter.in_background]
        queue = queues[waiter.workflow]
        queue.remove(waiter)
        if not queue:
            del queues[waiter.workflow]
        if not queues:
            del self.queues_by_class[waiter.in_background]

    def next(self, can_start: Callable[[SharedLimiter], bool]) -> Waiter | None:
        """Who is next among those whose workflow is open."""
        for queues in self.queues_by_class.values():
            first_waiters = [queue.first() for workflow, queue in queues.items() if can_start(workflow)]
            waiter = min(
                (first_waiter for first_waiter in first_waiters if first_waiter is not None),
                key=lambda head: head.arrived_at,
                default=None,
            )
            if waiter is not None:
                return waiter
        return None

    def count_ahead(self, waiter: Waiter, matches: Callable[[SharedLimiter], bool]) -> int:
        """How many of these, of workflows that count, go before `waiter`, were it the last to come."""
        own_ahead = _count_waiters(self.queues_by_class.get(waiter.in_background, {}), matches)
        return _count_served_before(
            own_ahead,
            waiter.in_background,
            ((name, _count_waiters(queues, matches)) for name, queues in self.queues_by_class.items()),
        )

    def count(self, matches: Callable[[SharedLimiter], bool]) -> int:
        """How many wait, of workflows that count."""
        return sum(_count_waiters(queues, matches) for queues in self.queues_by_class.values())


_EMPTY = ClientQueue()


class FairQueue:
    """Round robin over clients, within a client between those in a hurry and the patient, past blocked workflows.

    There are so many `places` for either kind. A client may fill as many as it leaves free for others, so one flood
    never fills the line.
    """

    def __init__(self, capacity: int) -> None:
        self._clients: OrderedDict[str, ClientQueue] = OrderedDict()
        self._capacity = capacity
        self._sizes = {False: 0, True: 0}

    def __len__(self) -> int:
        return sum(self._sizes.values())

    def add(self, waiter: Waiter) -> None:
        """See `Place`."""
        self._clients.setdefault(waiter.client, ClientQueue()).add(waiter)
        self._sizes[waiter.in_background] += 1

    def remove(self, waiter: Waiter) -> None:
        """See `Place`."""
        client_queue = self._clients[waiter.client]
        client_queue.remove(waiter)
        if not client_queue.queues_by_class:
            del self._clients[waiter.client]
        self._sizes[waiter.in_background] -= 1

    def is_full_for(self, waiter: Waiter) -> bool:
        """Whether there is no place left for `waiter`."""
        queues = self._clients.get(waiter.client, _EMPTY).queues_by_class.get(waiter.in_background, {})
        return _count_waiters(queues, lambda _: True) >= self._capacity - self._sizes[waiter.in_background]

    def next(self, can_start: Callable[[SharedLimiter], bool]) -> Waiter | None:
        """Who is next among those whose workflow is open."""
        for client_queue in self._clients.values():
            waiter = client_queue.next(can_start)
            if waiter is not None:
                return waiter
        return None

    def rotate(self, waiter: Waiter) -> None:
        """It has had its turn: its client goes to the end of the round, and its side to the end of the client's."""
        self._clients.move_to_end(waiter.client)
        self._clients[waiter.client].queues_by_class.move_to_end(waiter.in_background)

    def count_ahead(self, waiter: Waiter, matches: Callable[[SharedLimiter], bool]) -> int:
        """How many waiters, of workflows that count, go before `waiter`, were it the last to come."""
        own_ahead = self._clients.get(waiter.client, _EMPTY).count_ahead(waiter, matches)
        return _count_served_before(
            own_ahead,
            waiter.client,
            ((name, client_queue.count(matches)) for name, client_queue in self._clients.items()),
        )

    def workflows(self) -> Iterable[SharedLimiter]:
        """The workflows waited for; one may come several times."""
        return (
            limiter
            for client_queue in self._clients.values()
            for queues in client_queue.queues_by_class.values()
            for limiter in queues
        )


def _count_waiters(queues: dict[SharedLimiter, FifoQueue], matches: Callable[[SharedLimiter], bool]) -> int:
    return sum(len(queue) for workflow, queue in queues.items() if matches(workflow))


def _count_served_before(own_ahead: int, key: Hashable, sizes: Iterable[tuple[Hashable, int]]) -> int:
    """How many go before the turn that comes to `name` after `own` of its own, in a round of so many each."""
    rounds, ahead = own_ahead + 1, own_ahead
    for other_key, size in sizes:
        if other_key == key:
            rounds = own_ahead  # whoever comes after it in the round does so in its last round too
        else:
            ahead += min(rounds, size)
    return ahead
