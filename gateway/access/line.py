"""Who waits for a provider, and who is next: pure order, without time."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Protocol

from gateway.access.gate import Gate
from gateway.problems import Problem


class Place(Protocol):
    """Where waiters stand."""

    def join(self, waiter: Waiter) -> None:
        """Stand at the end."""

    def leave(self, waiter: Waiter) -> None:
        """Go, from anywhere in it."""


@dataclass(slots=True, eq=False)
class Waiter:
    """One request or call that waits for its turn; times are monotonic seconds.

    `take` takes all that it needs, or says why it can not; `undo` gives that back. The lane sets the rest: `place` is
    where it stands, `blocker` what it found closed, `ends` when it gives up (at its deadline or earlier), and `turn`
    ends with the Problem that ends the wait, or with None once `take` has been done.
    """

    client: str
    workflow: Gate
    since: float
    deadline: float
    take: Callable[[float], Problem | None]
    undo: Callable[[], None]
    wanted: Callable[[], bool]
    turn: asyncio.Future[Problem | None] = field(init=False)
    ends: float = field(init=False)
    place: Place = field(init=False)
    blocker: Gate = field(init=False)
    settled: bool = False


class Queue:
    """First come, first served."""

    def __init__(self) -> None:
        self._waiters: OrderedDict[Waiter, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._waiters)

    def join(self, waiter: Waiter) -> None:
        """See `Place`."""
        self._waiters[waiter] = None

    def leave(self, waiter: Waiter) -> None:
        """See `Place`."""
        del self._waiters[waiter]

    def first(self) -> Waiter | None:
        """The one that came first."""
        return next(iter(self._waiters), None)


class FairLine:
    """Round robin over clients, first come first served within a client, past those whose workflow is blocked.

    A client may fill as many of the `places` as it leaves free for others, so one flood never fills the line.
    """

    def __init__(self, places: int) -> None:
        self._clients: OrderedDict[str, dict[Gate, Queue]] = OrderedDict()
        self._places = places
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def join(self, waiter: Waiter) -> None:
        """See `Place`."""
        queues = self._clients.setdefault(waiter.client, {})
        queues.setdefault(waiter.workflow, Queue()).join(waiter)
        self._size += 1

    def leave(self, waiter: Waiter) -> None:
        """See `Place`."""
        queues = self._clients[waiter.client]
        queue = queues[waiter.workflow]
        queue.leave(waiter)
        if not queue:
            del queues[waiter.workflow]
        if not queues:
            del self._clients[waiter.client]
        self._size -= 1

    def full(self, client: str) -> bool:
        """Whether `client` has no place left."""
        own = sum(map(len, self._clients.get(client, {}).values()))
        return own >= self._places - self._size

    def next(self, open_: Callable[[Gate], bool]) -> Waiter | None:
        """Who is next among those whose workflow is open; its client goes to the end of the round."""
        for client, queues in self._clients.items():
            heads = [queue.first() for workflow, queue in queues.items() if open_(workflow)]
            waiter = min((head for head in heads if head is not None), key=lambda head: head.since, default=None)
            if waiter is not None:
                self._clients.move_to_end(client)
                return waiter
        return None

    def ahead(self, client: str, counts: Callable[[Gate], bool]) -> int:
        """How many waiters, of workflows that count, go before a newcomer of `client`."""
        own = _count(self._clients.get(client, {}), counts)
        rounds, ahead = own + 1, own
        for name, queues in self._clients.items():
            if name == client:
                rounds = own  # whoever comes after it in the round does so in its last round too
            else:
                ahead += min(rounds, _count(queues, counts))
        return ahead

    def workflows(self) -> Iterable[Gate]:
        """The workflows waited for; one may come several times."""
        return (workflow for queues in self._clients.values() for workflow in queues)


def _count(queues: dict[Gate, Queue], counts: Callable[[Gate], bool]) -> int:
    return sum(len(queue) for workflow, queue in queues.items() if counts(workflow))
