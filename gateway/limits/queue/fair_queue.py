"""Fair queue: round robin over clients (fair queuing), without time.

Each client has two classes of waiting requests, interactive and background, which are served alternately; within a
class, the oldest request whose workflow is not blocked is next.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable, Iterable
from dataclasses import dataclass, field
from typing import Protocol

from gateway.errors import RunError
from gateway.limits.counters import TakeResult
from gateway.limits.resource_limiter import ResourceLimiter


class WaitQueue(Protocol):
    """A queue of waiting requests."""

    def add(self, waiter: Waiter) -> None:
        """Append a request."""

    def remove(self, waiter: Waiter) -> None:
        """Remove a request, from any position."""


@dataclass(slots=True, eq=False)
class Waiter:
    """A start or call that waits for a provider. Times are monotonic seconds.

    `max_wait`: seconds that a background request may wait; None: an interactive request, which waits as long as the
    limits configure. `try_take` takes all that the request needs, or raises RunError if it is to be refused; its result
    is an awaitable if it needs a round trip. `undo` gives back what it took. The provider's queue sets the rest:
    `queue`, `blocker` (the limiter that it waits for), `expires_at` (at the deadline or earlier), and `future`, whose
    result is the RunError that ended the wait, or None once the request is admitted.
    """

    client: str
    workflow: ResourceLimiter
    arrived_at: float
    deadline: float
    try_take: Callable[[float], TakeResult | Awaitable[TakeResult]]
    undo: Callable[[], None]
    still_wanted: Callable[[], bool]
    max_wait: float | None = None
    future: asyncio.Future[RunError | None] = field(init=False)
    expires_at: float = field(init=False)
    queue: WaitQueue = field(init=False)
    blocker: ResourceLimiter = field(init=False)
    settled: bool = False

    @property
    def in_background(self) -> bool:
        """True for a background request: no client waits for its response."""
        return self.max_wait is not None


class FifoQueue:
    """Queue in the order of arrival."""

    def __init__(self) -> None:
        self._waiters: OrderedDict[Waiter, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._waiters)

    def add(self, waiter: Waiter) -> None:
        """Append a request."""
        self._waiters[waiter] = None

    def remove(self, waiter: Waiter) -> None:
        """Remove a request, from any position."""
        del self._waiters[waiter]

    def first(self) -> Waiter | None:
        """Return the oldest request, or None."""
        return next(iter(self._waiters), None)


class ClientQueue:
    """Waiting requests of one client, by class (interactive or background) and workflow."""

    __slots__ = ("queues_by_class",)

    def __init__(self) -> None:
        self.queues_by_class: OrderedDict[bool, dict[ResourceLimiter, FifoQueue]] = OrderedDict()
        """By `Waiter.in_background`; the first class is served next."""

    def add(self, waiter: Waiter) -> None:
        """Append a request."""
        queues = self.queues_by_class.setdefault(waiter.in_background, {})
        queues.setdefault(waiter.workflow, FifoQueue()).add(waiter)

    def remove(self, waiter: Waiter) -> None:
        """Remove a request, from any position."""
        queues = self.queues_by_class[waiter.in_background]
        queue = queues[waiter.workflow]
        queue.remove(waiter)
        if not queue:
            del queues[waiter.workflow]
        if not queues:
            del self.queues_by_class[waiter.in_background]

    def next(self, can_start: Callable[[ResourceLimiter], bool]) -> Waiter | None:
        """Return the next request whose workflow can start, or None."""
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

    def count_ahead(self, waiter: Waiter, matches: Callable[[ResourceLimiter], bool]) -> int:
        """Return how many requests of matching workflows are served before `waiter`, if it arrives now."""
        own_ahead = _count_waiters(self.queues_by_class.get(waiter.in_background, {}), matches)
        sizes = ((name, _count_waiters(queues, matches)) for name, queues in self.queues_by_class.items())
        return _count_served_before(own_ahead, waiter.in_background, sizes)

    def count(self, matches: Callable[[ResourceLimiter], bool]) -> int:
        """Return the number of waiting requests of matching workflows."""
        return sum(_count_waiters(queues, matches) for queues in self.queues_by_class.values())


_EMPTY = ClientQueue()


class FairQueue:
    """Round robin over clients, and within a client over its two classes; blocked workflows are passed over.

    Each class has `capacity` places. A client may hold at most as many of them as remain free, so one client alone gets
    half of them, and never all (load shedding per client).
    """

    def __init__(self, capacity: int) -> None:
        self._clients: OrderedDict[str, ClientQueue] = OrderedDict()
        self._capacity = capacity
        self._sizes = {False: 0, True: 0}

    def __len__(self) -> int:
        return sum(self._sizes.values())

    def add(self, waiter: Waiter) -> None:
        """Append a request to the queue of its client."""
        self._clients.setdefault(waiter.client, ClientQueue()).add(waiter)
        self._sizes[waiter.in_background] += 1

    def remove(self, waiter: Waiter) -> None:
        """Remove a request, from any position."""
        client_queue = self._clients[waiter.client]
        client_queue.remove(waiter)
        if not client_queue.queues_by_class:
            del self._clients[waiter.client]
        self._sizes[waiter.in_background] -= 1

    def is_full_for(self, waiter: Waiter) -> bool:
        """Return True if the client of `waiter` may not hold another place of its class."""
        queues = self._clients.get(waiter.client, _EMPTY).queues_by_class.get(waiter.in_background, {})
        return _count_waiters(queues, lambda _: True) >= self._capacity - self._sizes[waiter.in_background]

    def next(self, can_start: Callable[[ResourceLimiter], bool]) -> Waiter | None:
        """Return the next request whose workflow can start, or None."""
        for client_queue in self._clients.values():
            waiter = client_queue.next(can_start)
            if waiter is not None:
                return waiter
        return None

    def rotate(self, waiter: Waiter) -> None:
        """Move the client of a served request to the end of the round, and its class to the end of the client's."""
        self._clients.move_to_end(waiter.client)
        self._clients[waiter.client].queues_by_class.move_to_end(waiter.in_background)

    def count_ahead(self, waiter: Waiter, matches: Callable[[ResourceLimiter], bool]) -> int:
        """Return how many requests of matching workflows are served before `waiter`, if it arrives now."""
        own_ahead = self._clients.get(waiter.client, _EMPTY).count_ahead(waiter, matches)
        sizes = ((name, client_queue.count(matches)) for name, client_queue in self._clients.items())
        return _count_served_before(own_ahead, waiter.client, sizes)

    def workflows(self) -> Iterable[ResourceLimiter]:
        """Return the workflows of the waiting requests, with repetitions."""
        return (
            limiter
            for client_queue in self._clients.values()
            for queues in client_queue.queues_by_class.values()
            for limiter in queues
        )


def _count_waiters(queues: dict[ResourceLimiter, FifoQueue], matches: Callable[[ResourceLimiter], bool]) -> int:
    return sum(len(queue) for workflow, queue in queues.items() if matches(workflow))


def _count_served_before(own_ahead: int, key: Hashable, sizes: Iterable[tuple[Hashable, int]]) -> int:
    """Return how many entries round robin serves before an entry of `key` with `own_ahead` older ones of the same key.

    `sizes`: the number of waiting entries by key, in the order of the round. The entry is served in round
    `own_ahead + 1`. Keys before `key` in the order are served `own_ahead + 1` times until then, keys after it
    `own_ahead` times, none more often than it has entries. A `key` without entries joins the end of the round.

    Example: A waits with 1 entry, B with 2, C with 5, in this order, and a third entry of B arrives: `own_ahead` is 2.
    The rounds are A B C, B C, B: the new entry comes after 1 of A, 2 of B and 2 of C, so the result is 5.
    """
    rounds, ahead = own_ahead + 1, own_ahead
    for other_key, size in sizes:
        if other_key == key:
            rounds = own_ahead
        else:
            ahead += min(rounds, size)
    return ahead
