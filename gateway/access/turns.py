"""Whose turn it is before one provider's gate, and how long a newcomer would have to wait.

Polls that have waited too long go first, then retried starts, then starts, then polls.
"""

from __future__ import annotations

import math

from gateway.access.gate import Gate
from gateway.access.limits import SharedLimits
from gateway.access.line import FairLine, Queue, Waiter

_PLACES = 1000  # starts that may wait for one provider, and as many again of those with a patience of their own


class Turns:
    """The gate, and the three places where one may stand before it."""

    def __init__(self, limits: SharedLimits) -> None:
        self.gate = Gate("provider", limits)
        self.starts = FairLine(_PLACES)
        self.again = Queue()
        self.polls = Queue()

    def next(self, now: float) -> Waiter | None:
        """Who may go at `now`; it still stands in its place."""
        if self.gate.bucket.blocked(now):
            return None
        poll = self.polls.first()
        if poll is not None and now - poll.since >= self.gate.max_wait:
            return poll
        start = self.again.first()
        if start is None and not self.gate.full:
            start = self.starts.next(lambda workflow: not workflow.blocked(now))
        return start or poll

    def turn(self, waiter: Waiter) -> None:
        """It has had its turn, and still stands in its place."""
        if waiter.place is self.starts:
            self.starts.turn(waiter)

    def opens_at(self) -> float:
        """When somebody's turn comes if nothing is freed before; infinity where only that can help."""
        at = math.inf
        if self.again or self.polls:
            at = self.gate.bucket.opens_at()
        if self.starts and not self.gate.full:
            first = min(workflow.opens_at() for workflow in self.starts.workflows())
            at = min(at, max(self.gate.bucket.opens_at(), first))
        return at

    def delay(self, waiter: Waiter, now: float) -> float:
        """Seconds until the rates let `waiter` through, were it the last to come; 0 where only slots are short."""
        rate, own = self.gate.bucket, waiter.workflow.bucket
        if waiter.place is not self.starts:
            return rate.wait(now, len(self.again) + 1)
        delay = 0.0
        if rate.limited:
            before = self.starts.ahead(waiter, lambda workflow: not workflow.blocked(now)) + len(self.again)
            delay = rate.wait(now, before + 1)
        if own.limited:
            before = self.starts.ahead(waiter, lambda workflow: workflow is waiter.workflow)
            delay = max(delay, own.wait(now, before + 1))
        return delay

    def slots_short(self, waiter: Waiter) -> bool:
        """Whether `waiter` needs a slot and there is none."""
        return waiter.place is self.starts and (self.gate.full or waiter.workflow.full)
