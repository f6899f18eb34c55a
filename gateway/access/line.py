"""Who waits for a provider, and who is next: pure order, without time."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable
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

    `patience` is how many seconds it waits for a start, None: as long as the limits say (`Limits.admit`).
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
    patience: float | None = None
    turn: asyncio.Future[Problem | None] = field(init=False)
    ends: float = field(init=False)
    place: Place = field(init=False)
    blocker: Gate = field(init=False)
    settled: bool = False

    @property
    def patient(self) -> bool:
        """Whether it says itself how long it waits, because nobody stands at the door."""
        return self.patience is not None


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


class Party:
    """The waiters of one client: those in a hurry and the patient ones take turns, each first come first served."""

    __slots__ = ("sides",)

    def __init__(self) -> None:
        self.sides: OrderedDict[bool, dict[Gate, Queue]] = OrderedDict()  # by `Waiter.patient`, in the order of turns

    def join(self, waiter: Waiter) -> None:
        """See `Place`."""
        queues = self.sides.setdefault(waiter.patient, {})
        queues.setdefault(waiter.workflow, Queue()).join(waiter)

    def leave(self, waiter: Waiter) -> None:
        """See `Place`."""
        queues = self.sides[waiter.patient]
        queue = queues[waiter.workflow]
        queue.leave(waiter)
        if not queue:
            del queues[waiter.workflow]
        if not queues:
            del self.sides[waiter.patient]

    def next(self, open_: Callable[[Gate], bool]) -> Waiter | None:
        """Who is next among those whose workflow is open."""
        for queues in self.sides.values():
            heads = [queue.first() for workflow, queue in queues.items() if open_(workflow)]
            waiter = min((head for head in heads if head is not None), key=lambda head: head.since, default=None)
            if waiter is not None:
                return waiter
        return None

    def ahead(self, waiter: Waiter, counts: Callable[[Gate], bool]) -> int:
        """How many of these, of workflows that count, go before `waiter`, were it the last to come."""
        own = _count(self.sides.get(waiter.patient, {}), counts)
        return _ahead(own, waiter.patient, ((name, _count(queues, counts)) for name, queues in self.sides.items()))

    def size(self, counts: Callable[[Gate], bool]) -> int:
        """How many wait, of workflows that count."""
        return sum(_count(queues, counts) for queues in self.sides.values())


_NOBODY = Party()


class FairLine:
    """Round robin over clients, within a client between those in a hurry and the patient, past blocked workflows.

    There are so many `places` for either kind. A client may fill as many as it leaves free for others, so one flood
    never fills the line.
    """

    def __init__(self, places: int) -> None:
        self._clients: OrderedDict[str, Party] = OrderedDict()
        self._places = places
        self._sizes = {False: 0, True: 0}

    def __len__(self) -> int:
        return sum(self._sizes.values())

    def join(self, waiter: Waiter) -> None:
        """See `Place`."""
        self._clients.setdefault(waiter.client, Party()).join(waiter)
        self._sizes[waiter.patient] += 1

    def leave(self, waiter: Waiter) -> None:
        """See `Place`."""
        party = self._clients[waiter.client]
        party.leave(waiter)
        if not party.sides:
            del self._clients[waiter.client]
        self._sizes[waiter.patient] -= 1

    def full(self, waiter: Waiter) -> bool:
        """Whether there is no place left for `waiter`."""
        queues = self._clients.get(waiter.client, _NOBODY).sides.get(waiter.patient, {})
        return _count(queues, lambda _: True) >= self._places - self._sizes[waiter.patient]

    def next(self, open_: Callable[[Gate], bool]) -> Waiter | None:
        """Who is next among those whose workflow is open."""
        for party in self._clients.values():
            waiter = party.next(open_)
            if waiter is not None:
                return waiter
        return None

    def turn(self, waiter: Waiter) -> None:
        """It has had its turn: its client goes to the end of the round, and its side to the end of the client's."""
        self._clients.move_to_end(waiter.client)
        self._clients[waiter.client].sides.move_to_end(waiter.patient)

    def ahead(self, waiter: Waiter, counts: Callable[[Gate], bool]) -> int:
        """How many waiters, of workflows that count, go before `waiter`, were it the last to come."""
        own = self._clients.get(waiter.client, _NOBODY).ahead(waiter, counts)
        return _ahead(own, waiter.client, ((name, party.size(counts)) for name, party in self._clients.items()))

    def workflows(self) -> Iterable[Gate]:
        """The workflows waited for; one may come several times."""
        return (gate for party in self._clients.values() for queues in party.sides.values() for gate in queues)


def _count(queues: dict[Gate, Queue], counts: Callable[[Gate], bool]) -> int:
    return sum(len(queue) for workflow, queue in queues.items() if counts(workflow))


def _ahead(own: int, name: Hashable, sizes: Iterable[tuple[Hashable, int]]) -> int:
    """How many go before the turn that comes to `name` after `own` of its own, in a round of so many each."""
    rounds, ahead = own + 1, own
    for other, size in sizes:
        if other == name:
            rounds = own  # whoever comes after it in the round does so in its last round too
        else:
            ahead += min(rounds, size)
    return ahead
