"""A client's own limits as one account: all of them let a request in, or it is refused and nothing is taken."""

from __future__ import annotations

import math

from gateway.access.daily import DailyQuota
from gateway.access.gcra import GRACE, Bucket
from gateway.access.limits import SLOT_RETRY, ClientLimits, Fields
from gateway.clock import Clock
from gateway.problems import Problem

_ROUNDING = 1e-9  # seconds: what a sum of floats may be too much, where it should be a whole number


class Account:
    """What one client has used, and the header fields that tell it (draft-ietf-httpapi-ratelimit-headers-11).

    The fields are two Lists of Items: `RateLimit-Policy: "rate";q=40;w=2, "daily";q=10000;w=86400` and, with what is
    left (`r`) and for how many seconds no more comes (`t`), `RateLimit: "rate";r=39;t=1, "daily";r=9999;t=43200`.
    """

    __slots__ = ("_clock", "_policy", "_rated", "capacity", "daily", "in_flight", "rate")

    def __init__(self, limits: ClientLimits, clock: Clock) -> None:
        self.in_flight = 0
        self._clock = clock
        self.rate = Bucket(limits.rate, limits.burst)
        self.daily: DailyQuota | None = None
        self._shape(limits)

    def reconfigure(self, limits: ClientLimits, now: float) -> None:
        """Other limits; what is used of them stays used."""
        self.rate.reconfigure(limits.rate, limits.burst, now)
        self._shape(limits)

    def _shape(self, limits: ClientLimits) -> None:
        self.capacity = math.inf if limits.concurrency is None else limits.concurrency
        self._rated = limits.rate is not None
        if limits.daily is None:
            self.daily = None
        elif self.daily is None:
            self.daily = DailyQuota(limits.daily, self._clock)
        else:
            self.daily.limit = limits.daily
        self._policy = self._policies(limits)

    def _policies(self, limits: ClientLimits) -> Fields:
        items = []
        if self._rated:
            window = math.ceil(self.rate.burst * self.rate.interval - GRACE)
            items.append(f'"rate";q={self.rate.burst};w={max(1, window)}')
        if limits.daily is not None:
            items.append(f'"daily";q={limits.daily};w=86400')
        if limits.concurrency is not None:
            items.append(f'"concurrency";q={limits.concurrency};qu="concurrent-requests"')
        return (("RateLimit-Policy", ", ".join(items)),) if items else ()

    def refusal(self, now: float) -> Problem | None:
        """Why one more request at `now` is too many, with all that its answer needs; or None."""
        daily = self.daily
        if self.in_flight < self.capacity and not self.rate.blocked(now) and (daily is None or daily.left(now) > 0):
            return None
        waits = self._waits(now)
        # "The Retry-After field value SHOULD NOT reference a point in time earlier than the end of the effective
        # window" (section 6): so only the policies that refuse are listed.
        service = ", ".join(f'"{name}";r=0;t={math.ceil(wait - _ROUNDING)}' for name, wait in waits.items())
        return Problem(
            "rate_limited",
            f"Used up: {', '.join(waits)}.",
            retry_after=max(waits.values()),
            headers=(*self._policy, ("RateLimit", service)),
        )

    def _waits(self, now: float) -> dict[str, float]:
        """Each limit that refuses, and the seconds until it does not."""
        waits = {}
        if self.rate.blocked(now):
            waits["rate"] = self.rate.wait(now)
        if self.daily is not None and self.daily.left(now) <= 0:
            waits["daily"] = self.daily.resets_in(now)
        if self.in_flight >= self.capacity:
            waits["concurrency"] = SLOT_RETRY
        return waits

    def take(self, now: float) -> None:
        """Charge one request; the caller has asked `refusal` at the same `now`."""
        self.in_flight += 1
        self.rate.take(now)
        if self.daily is not None:
            self.daily.take()

    def free(self) -> None:
        """The request has left: its slot is free."""
        self.in_flight -= 1

    def refund(self) -> None:
        """The charges of a request that was not served go back; its slot is `free`'s."""
        self.rate.refund()
        if self.daily is not None:
            self.daily.refund()

    def fields(self, now: float) -> Fields:
        """The header fields for an answer, with what is left after it."""
        daily, service = self.daily, ""
        if self._rated:
            left, more_in = self.rate.left(now)
            service = f'"rate";r={left};t={more_in}'
        if daily is not None:
            separator = ", " if service else ""
            service += f'{separator}"daily";r={daily.left(now)};t={math.ceil(daily.resets_in(now) - _ROUNDING)}'
        return (*self._policy, ("RateLimit", service)) if service else self._policy
