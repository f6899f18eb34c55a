"""The way to one provider where replicas share its limits: who waits here asks the server when its turn may have come.

The line is this replica's own, and fair between its clients. What the gates show is what the server said last: a rate
that is used up stays so until the moment that they tell; a slot may have been freed elsewhere, so it is asked for again
and again. The server keeps the next free slot for a replica that found none, so replicas take turns too.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import cast

from gateway.access.gate import Gate
from gateway.access.lane import Lane
from gateway.access.limits import Decided, SharedLimits
from gateway.access.line import Waiter
from gateway.access.redis_ledger import Ledger
from gateway.access.redis_server import ServerLost
from gateway.clock import Clock
from gateway.problems import Problem

_ASK_AGAIN = 0.05  # seconds until the server is asked anew whether a slot is free; it keeps one three times as long


@dataclass(slots=True, eq=False)
class AskingWaiter(Waiter):
    """One who asks the server. `ask` says whether all was taken, or why it never can be; it raises ServerLost.

    `undo` gives back what was taken.
    """

    ask: Callable[[], Awaitable[bool | Problem]] = field(kw_only=True)


class SharedLane(Lane):
    """See `Lane`. While the server is lost it is one."""

    def __init__(self, limits: SharedLimits, clock: Clock, decided: Decided | None, ledger: Ledger) -> None:
        super().__init__(limits, clock, decided)
        self._ledger = ledger
        self._serving: asyncio.Task[None] | None = None
        self._doubt_at = math.inf  # when what the gates say about slots is too old

    def nobody_before(self, workflow: Gate, now: float) -> bool:
        """Whether a newcomer that takes what it needs at `now` overtakes nobody."""
        if self._turns.next(now) is not None:
            return False
        return not self._turns.starts or not (self.gate.blocked(now) or workflow.blocked(now))

    def no_call_before(self, now: float) -> bool:
        """The same for a call of a run that has its slot."""
        return self._turns.next(now) is None and not (self.waiting and self.gate.bucket.blocked(now))

    def pump(self) -> None:
        """See `Lane.pump`."""
        if not self._ledger.shared:
            super().pump()
            return
        now = self._monotonic()
        for waiter in self._expiries.due(now):
            self._settle(waiter, self._given_up(waiter, now))
        if now >= self._doubt_at:
            self._doubt()
            self._doubt_at = math.inf
        if self._serving is None and self._turns.next(now) is not None:
            self._serving = asyncio.get_running_loop().create_task(self._serve())
        self._set_alarm()

    async def _serve(self) -> None:
        """Ask the server for one after the other, as long as somebody's turn may have come."""
        try:
            while (waiter := self._turns.next(self._monotonic())) is not None and self._ledger.shared:
                await self._attempt(waiter)
        except ServerLost:
            pass  # from here on the gates count for themselves
        finally:
            self._serving = None
        self.pump()

    async def _wait(self, waiter: Waiter, opens_at: float) -> Gate:
        if self._ledger.shared:
            self._doubt_at = min(self._doubt_at, waiter.since + _ASK_AGAIN)
            opens_at = min(opens_at, self._doubt_at)
        return await super()._wait(waiter, opens_at)

    async def _attempt(self, waiter: Waiter) -> None:
        now = self._monotonic()
        problem = self._gone(waiter, now)
        if waiter.turn.done() or problem is not None:
            self._settle(waiter, problem)
            return
        answer = await cast("AskingWaiter", waiter).ask()
        if waiter.settled:  # in the meantime: cancelled, or its wait is over
            if answer is True:
                waiter.undo()
        elif answer is not False:
            self._turns.turn(waiter)
            self._settle(waiter, None if answer is True else answer)

    def _set_alarm(self) -> None:
        if self._serving is not None:  # what it hears may change everything: until then, only waits may end
            self._alarm.cancel()
            self._alarm.set(self._expiries.next_at())
            return
        super()._set_alarm()
        if self._ledger.shared and any(True for _ in self._full()):
            self._doubt_at = min(self._doubt_at, self._monotonic() + _ASK_AGAIN)
            self._alarm.set(self._doubt_at)

    def _doubt(self) -> None:
        """A slot may be free by now: show one, so that the next one asks."""
        for gate in self._full():
            gate.in_flight = min(gate.in_flight, math.ceil(gate.capacity) - 1)

    def _full(self) -> Iterator[Gate]:
        if self._turns.starts:
            yield from (gate for gate in (self.gate, *set(self._turns.starts.workflows())) if gate.full)
