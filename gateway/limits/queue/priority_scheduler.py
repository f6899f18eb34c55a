"""Priority scheduler of one provider: which waiting request is next, and how long a new one would have to wait.

Order: polls that have waited for `max_wait`, retried starts, starts, polls.
"""

from __future__ import annotations

import math

from gateway.limits.config import ResourceLimitsConfig
from gateway.limits.queue.fair_queue import FairQueue, FifoQueue, Waiter
from gateway.limits.resource_limiter import ResourceLimiter

_QUEUE_CAPACITY = 1000  # starts that may wait for one provider: interactive ones, and as many background ones


class PriorityScheduler:
    """Limiter of the provider, and the queues of its starts, retries and polls."""

    def __init__(self, limits: ResourceLimitsConfig) -> None:
        self.limiter = ResourceLimiter("provider", limits)
        self.starts = FairQueue(_QUEUE_CAPACITY)
        self.retries = FifoQueue()
        self.polls = FifoQueue()

    def next(self, now: float) -> Waiter | None:
        """Return the request that can be admitted at `now`, still queued; None if all are blocked."""
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
        """Advance the round robin after `waiter`, still queued, was served."""
        if waiter.queue is self.starts:
            self.starts.rotate(waiter)

    def next_dispatch_at(self) -> float:
        """Return the time at which a request can be admitted if no slot is freed; infinity if all need a slot."""
        at = math.inf
        if self.retries or self.polls:
            at = self.limiter.rate_limiter.available_at()
        if self.starts and not self.limiter.full:
            first = min(workflow.available_at() for workflow in self.starts.workflows())
            at = min(at, max(self.limiter.rate_limiter.available_at(), first))
        return at

    def estimate_delay(self, waiter: Waiter, now: float) -> float:
        """Return the seconds until the rates allow `waiter`, if it arrives now; 0 if only slots are missing."""
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
        """Return True if `waiter` needs a slot and none is free."""
        return waiter.queue is self.starts and (self.limiter.full or waiter.workflow.full)
