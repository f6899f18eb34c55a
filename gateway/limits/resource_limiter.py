"""Limits of one workflow or provider over all clients: a rate limit and a concurrency limit (semaphore)."""

from __future__ import annotations

import math

from gateway.limits.config import LimitScope, ResourceLimitsConfig
from gateway.limits.gcra import RateLimiter


class ResourceLimiter:
    """Rate and slots of a workflow or provider, taken together. Without limits it is never blocked.

    `limited`: a limit is configured. `capacity`: number of slots, infinity without a concurrency limit. `in_flight`:
    slots in use. `max_wait`: seconds that a request may wait for it.
    """

    __slots__ = ("capacity", "in_flight", "limited", "max_wait", "rate_limiter", "scope")

    def __init__(self, scope: LimitScope, limits: ResourceLimitsConfig | None = None) -> None:
        limits = limits or ResourceLimitsConfig()
        self.scope = scope
        self.rate_limiter = RateLimiter(limits.rate, limits.burst)
        self.in_flight = 0
        self._apply(limits)

    def reconfigure(self, limits: ResourceLimitsConfig, now: float) -> None:
        """Apply other limits; usage is kept."""
        self.rate_limiter.reconfigure(limits.rate, limits.burst, now)
        self._apply(limits)

    def _apply(self, limits: ResourceLimitsConfig) -> None:
        self.capacity = math.inf if limits.concurrency is None else limits.concurrency
        self.limited = limits.rate is not None or limits.concurrency is not None
        self.max_wait = limits.max_wait if self.limited else math.inf

    @property
    def full(self) -> bool:
        """True if every slot is in use."""
        return self.in_flight >= self.capacity

    def blocked(self, now: float) -> bool:
        """Return True if the rate or the slots are used up at `now`."""
        rate = self.rate_limiter  # `RateLimiter.blocked` and `take` inline: two calls less for each part of a request
        return self.in_flight >= self.capacity or now < rate.full_at - rate.tolerance

    def available_at(self) -> float:
        """Return the monotonic time from which it is not blocked; infinity if that needs a slot."""
        return math.inf if self.full else self.rate_limiter.available_at()

    def take(self, now: float) -> None:
        """Charge one request and take a slot; `blocked` was False at the same `now`."""
        self.in_flight += 1
        rate = self.rate_limiter
        rate.full_at = max(now, rate.full_at) + rate.interval

    def take_slot(self) -> None:
        """Take one slot, without a charge."""
        self.in_flight += 1

    def release(self) -> None:
        """Free one slot."""
        self.in_flight -= 1

    def refund(self) -> None:
        """Give the charge of one request back, but not its slot."""
        self.rate_limiter.refund()
