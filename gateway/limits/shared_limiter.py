"""What all clients together may take of one workflow or provider: a rate and a number of slots, passed as one."""

from __future__ import annotations

import math

from gateway.limits.contract import LimitScope, SharedLimitsConfig
from gateway.limits.gcra import RateLimiter


class SharedLimiter:
    """A provider's or workflow's limits and what is used of them; without limits it is always open.

    `limited` says whether there are any; `capacity` is how many slots there are; `max_wait` is the longest wait for it,
    in seconds.
    """

    __slots__ = ("capacity", "in_flight", "limited", "max_wait", "rate_limiter", "scope")

    def __init__(self, scope: LimitScope, limits: SharedLimitsConfig | None = None) -> None:
        limits = limits or SharedLimitsConfig()
        self.scope = scope
        self.rate_limiter = RateLimiter(limits.rate, limits.burst)
        self.in_flight = 0
        self._apply(limits)

    def reconfigure(self, limits: SharedLimitsConfig, now: float) -> None:
        """Other limits; what is used of them stays used."""
        self.rate_limiter.reconfigure(limits.rate, limits.burst, now)
        self._apply(limits)

    def _apply(self, limits: SharedLimitsConfig) -> None:
        self.capacity = math.inf if limits.concurrency is None else limits.concurrency
        self.limited = limits.rate is not None or limits.concurrency is not None
        self.max_wait = limits.max_wait if self.limited else math.inf

    @property
    def full(self) -> bool:
        """Whether every slot is taken."""
        return self.in_flight >= self.capacity

    def blocked(self, now: float) -> bool:
        """Whether nothing may pass at `now`."""
        return self.in_flight >= self.capacity or self.rate_limiter.blocked(now)

    def available_at(self) -> float:
        """The moment from which on something may pass; infinity where that needs a slot."""
        return math.inf if self.full else self.rate_limiter.available_at()

    def acquire(self, now: float) -> None:
        """Pass: one of the rate and one slot; the caller has asked `blocked`."""
        self.in_flight += 1
        self.rate_limiter.take(now)

    def release(self) -> None:
        """The slot is free."""
        self.in_flight -= 1
