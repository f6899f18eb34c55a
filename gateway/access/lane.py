"""The way to one provider: who may not pass waits here, until its turn, its deadline or the limits' patience ends it.

Whenever a slot is freed, a rate lets one more through or a wait ends, `pump` lets everybody go whose turn has come. So
whoever is left is blocked, and a newcomer that is not blocked may pass at once.
"""

from __future__ import annotations

import asyncio
import math

from gateway.access.alarm import Alarm
from gateway.access.expiries import Expiries
from gateway.access.gate import Gate
from gateway.access.gcra import GRACE
from gateway.access.limits import SLOT_RETRY, Decided, SharedLimits
from gateway.access.line import Place, Waiter
from gateway.access.turns import Turns
from gateway.clock import Clock
from gateway.problems import Problem


class Lane:
    """One provider's gate and the waiters before it."""

    def __init__(self, limits: SharedLimits, clock: Clock, decided: Decided | None = None) -> None:
        self._turns = Turns(limits)
        self._decided = decided
        self._monotonic = clock.monotonic
        self._expiries = Expiries()
        self._alarm = Alarm(clock, self.pump)
        self.gate = self._turns.gate

    @property
    def waiting(self) -> int:
        """How many wait, polls included."""
        return self._expiries.size

    def open(self, workflow: Gate, now: float) -> bool:
        """Whether a start of `workflow` may pass at `now`."""
        self._catch_up(now)
        return not (self.gate.blocked(now) or workflow.blocked(now))

    def open_for_call(self, now: float) -> bool:
        """Whether a call of a run that has its slot may pass at `now`."""
        self._catch_up(now)
        return not self.gate.bucket.blocked(now)

    def call(self, now: float) -> None:
        """One call of a run that has its slot; the caller has asked `open_for_call`."""
        self.gate.bucket.take(now)

    def uncall(self) -> None:
        """The call will not be made after all."""
        self.gate.bucket.refund()
        self._changed()

    def reconfigure(self, limits: SharedLimits) -> None:
        """Other limits: what is used of them stays used, who waits keeps its place."""
        self.gate.reconfigure(limits, self._monotonic())
        self._changed()

    def free(self) -> None:
        """A slot of the provider and one of its workflow are free."""
        self.gate.free()
        self._changed()

    async def start(self, waiter: Waiter) -> Gate:
        """Wait as a first start. Raises `Problem`, at once where the turn can not come in time or the line is full.

        Like its siblings, returns the gate that was closed.
        """
        waiter.blocker = self.gate if self.gate.blocked(waiter.since) else waiter.workflow
        self._bound(waiter, self._turns.starts, min(self.gate.max_wait, waiter.workflow.max_wait))
        if self._turns.starts.full(waiter) or self._hopeless(waiter):
            raise self._overloaded(waiter, waiter.since)
        return await self._wait(waiter, max(self.gate.opens_at(), waiter.workflow.opens_at()))

    async def start_again(self, waiter: Waiter) -> Gate:
        """Wait as a retried start: like a first one, but before all of them."""
        waiter.blocker = self.gate
        self._bound(waiter, self._turns.again, self.gate.max_wait)
        if self._hopeless(waiter):
            raise self._overloaded(waiter, waiter.since)
        return await self._wait(waiter, self.gate.bucket.opens_at())

    async def poll(self, waiter: Waiter) -> Gate:
        """Wait as a poll: only the deadline ends it."""
        waiter.blocker = self.gate
        self._bound(waiter, self._turns.polls, math.inf)
        return await self._wait(waiter, self.gate.bucket.opens_at())

    def pump(self) -> None:
        """Let everybody go whose turn has come, and those whose patience is over."""
        now = self._monotonic()
        while (waiter := self._turns.next(now)) is not None:
            self._turns.turn(waiter)
            self._settle(waiter, self._turn(waiter, now))
        for waiter in self._expiries.due(now):
            self._settle(waiter, self._given_up(waiter, now))
        self._set_alarm()

    def _catch_up(self, now: float) -> None:
        if self._expiries.size and now >= self._alarm.at:
            self.pump()

    def _changed(self) -> None:
        if self._expiries.size:
            self.pump()

    def _bound(self, waiter: Waiter, place: Place, max_wait: float) -> None:
        waiter.place = place
        waiter.turn = asyncio.get_running_loop().create_future()
        patience = max_wait if waiter.patience is None or place is self._turns.polls else waiter.patience
        waiter.ends = min(waiter.deadline, waiter.since + patience)
        if waiter.ends <= waiter.since:
            raise self._given_up(waiter, waiter.since)

    def _hopeless(self, waiter: Waiter) -> bool:
        return waiter.since + self._turns.delay(waiter, waiter.since) > waiter.ends + GRACE

    async def _wait(self, waiter: Waiter, opens_at: float) -> Gate:
        waiter.place.join(waiter)
        self._expiries.add(waiter)
        self._alarm.set(min(waiter.ends, opens_at))
        try:
            problem = await waiter.turn
        except asyncio.CancelledError:
            self._withdraw(waiter)
            raise
        if problem is not None:
            raise problem
        return waiter.blocker

    def _withdraw(self, waiter: Waiter) -> None:
        """Whoever waited was cancelled, perhaps in the very moment of its turn: leave no trace."""
        if not waiter.settled:
            self._settle(waiter, None)
        elif not waiter.turn.cancelled() and waiter.turn.result() is None:
            waiter.undo()
        self._set_alarm()

    def _settle(self, waiter: Waiter, problem: Problem | None) -> None:
        waiter.place.leave(waiter)
        self._expiries.settle(waiter)
        if not waiter.turn.done():
            waiter.turn.set_result(problem)

    def _turn(self, waiter: Waiter, now: float) -> Problem | None:
        if waiter.turn.done():  # cancelled, and about to withdraw
            return None
        problem = self._gone(waiter, now)
        return waiter.take(now) if problem is None else problem

    def _gone(self, waiter: Waiter, now: float) -> Problem | None:
        if now > waiter.deadline:
            return self._given_up(waiter, now)
        if waiter.place is not self._turns.polls and not waiter.wanted():
            return Problem("client_closed_request", extra={"outcome": "not_run"})
        return None

    def _set_alarm(self) -> None:
        if self._expiries.size:
            self._alarm.set(min(self._expiries.next_at(), self._turns.opens_at()))
        else:
            self._alarm.cancel()

    def _given_up(self, waiter: Waiter, now: float) -> Problem:
        if waiter.ends < waiter.deadline:
            return self._overloaded(waiter, now)
        self._report_refused(waiter)
        outcome = "unknown" if waiter.place is self._turns.polls else "not_run"
        return Problem("deadline_exceeded", "The deadline passed before the turn came.", extra={"outcome": outcome})

    def _overloaded(self, waiter: Waiter, now: float) -> Problem:
        self._report_refused(waiter)
        delay = self._turns.delay(waiter, now)
        if self._turns.slots_short(waiter):
            delay = max(delay, SLOT_RETRY)
        return Problem("overloaded", "The turn does not come in time.", retry_after=delay, extra={"outcome": "not_run"})

    def _report_refused(self, waiter: Waiter) -> None:
        if self._decided is not None:
            self._decided(waiter.blocker.scope, "refused")
