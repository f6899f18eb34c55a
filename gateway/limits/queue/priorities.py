"""Whose turn it is before one provider's gate, and how long a newcomer would have to wait.

Polls that have waited too long go first, then retried starts, then starts, then polls.
"""

from __future__ import annotations

import math

from gateway.limits.contract import SharedLimitsConfig
from gateway.limits.queue.fair_queue import FairQueue, FifoQueue, Waiter
from gateway.limits.shared_limiter import SharedLimiter

_QUEUE_CAPACITY = 1000  # starts that may wait for one provider, and as many again of those with a patience of their own


class PriorityScheduler:
    """The gate, and the three places where one may stand before it."""

    def __init__(self, limits: SharedLimitsConfig) -> None:
        self.limiter = SharedLimiter("provider", limits)
        self.starts = FairQueue(_QUEUE_CAPACITY)
        self.retries = FifoQueue()
        self.polls = FifoQueue()

    def next(self, now: float) -> Waiter | None:
        """Who may go at `now`; it still stands in its place."""
        if self.limiter.rate_limiter.blocked(now):
            return None
        poll = self.polls.first()
        if poll is not None and now - poll.arrived_at >= self.limiter.max_wait:
            return poll
        start = self.retries.first()
        if start is None and not self.limiter.full:
            start = self.starts.next(lambda workflow: not workflow.blocked(now))
        return start or poll

    def rotate(self, waiter: Waiter) -> None:
        """It has had its turn, and still stands in its place."""
        if waiter.queue is self.starts:
            self.starts.rotate(waiter)

    def next_dispatch_at(self) -> float:
        """When somebody's turn comes if nothing is freed before; infinity where only that can help."""
        at = math.inf
        if self.retries or self.polls:
            at = self.limiter.rate_limiter.available_at()
        if self.starts and not self.limiter.full:
            first = min(workflow.available_at() for workflow in self.starts.workflows())
            at = min(at, max(self.limiter.rate_limiter.available_at(), first))
        return at

    def estimate_delay(self, waiter: Waiter, now: float) -> float:
        """Seconds until the rates let `waiter` through, were it the last to come; 0 where only slots are short."""
        provider_rate, workflow_rate = self.limiter.rate_limiter, waiter.workflow.rate_limiter
        if waiter.queue is not self.starts:
            return provider_rate.wait_time(now, len(self.retries) + 1)
        delay = 0.0
        if provider_rate.limited:
            ahead = self.starts.count_ahead(waiter, lambda workflow: not workflow.blocked(now)) + len(self.retries)
            delay = provider_rate.wait_time(now, ahead + 1)
        if workflow_rate.limited:
            ahead = self.starts.count_ahead(waiter, lambda workflow: workflow is waiter.workflow)
            delay = max(delay, workflow_rate.wait_time(now, ahead + 1))
        return delay

    def lacks_slot(self, waiter: Waiter) -> bool:
        """Whether `waiter` needs a slot and there is none."""
        return waiter.queue is self.starts and (self.limiter.full or waiter.workflow.full)
