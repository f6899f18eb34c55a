"""A client's own limits as one account: all of them let a request in, or it is refused and nothing is taken."""

from __future__ import annotations

import math

from gateway.clock import Clock
from gateway.errors import RateLimited
from gateway.limits.contract import SLOT_RETRY_AFTER, ClientLimitsConfig, HeaderFields
from gateway.limits.daily_quota import DailyQuota
from gateway.limits.gcra import TIME_EPSILON, RateLimiter

_ROUNDING_ERROR = 1e-9  # seconds: what a sum of floats may be too much, where it should be a whole number


class ClientLimiter:
    """What one client has used, and the header fields that tell it (draft-ietf-httpapi-ratelimit-headers-11).

    The fields are two Lists of Items: `RateLimit-Policy: "rate";q=40;w=2, "daily";q=10000;w=86400` and, with what is
    left (`r`) and for how many seconds no more comes (`t`), `RateLimit: "rate";r=39;t=1, "daily";r=9999;t=43200`.
    """

    __slots__ = ("_clock", "_has_rate", "_policy", "capacity", "daily_quota", "in_flight", "rate_limiter")

    def __init__(self, limits: ClientLimitsConfig, clock: Clock) -> None:
        self.in_flight = 0
        self._clock = clock
        self.rate_limiter = RateLimiter(limits.rate, limits.burst)
        self.daily_quota: DailyQuota | None = None
        self._apply(limits)

    def reconfigure(self, limits: ClientLimitsConfig, now: float) -> None:
        """Other limits; what is used of them stays used."""
        self.rate_limiter.reconfigure(limits.rate, limits.burst, now)
        self._apply(limits)

    def _apply(self, limits: ClientLimitsConfig) -> None:
        self.capacity = math.inf if limits.concurrency is None else limits.concurrency
        self._has_rate = limits.rate is not None
        if limits.daily is None:
            self.daily_quota = None
        elif self.daily_quota is None:
            self.daily_quota = DailyQuota(limits.daily, self._clock)
        else:
            self.daily_quota.limit = limits.daily
        self._policy = self._render_policy(limits)

    def _render_policy(self, limits: ClientLimitsConfig) -> HeaderFields:
        items = []
        if self._has_rate:
            window = math.ceil(self.rate_limiter.burst * self.rate_limiter.interval - TIME_EPSILON)
            items.append(f'"rate";q={self.rate_limiter.burst};w={max(1, window)}')
        if limits.daily is not None:
            items.append(f'"daily";q={limits.daily};w=86400')
        if limits.concurrency is not None:
            items.append(f'"concurrency";q={limits.concurrency};qu="concurrent-requests"')
        return (("RateLimit-Policy", ", ".join(items)),) if items else ()

    def refusal(self, now: float) -> RateLimited | None:
        """Why one more request at `now` is too many, with all that its answer needs; or None."""
        daily = self.daily_quota
        if (
            self.in_flight < self.capacity
            and not self.rate_limiter.blocked(now)
            and (daily is None or daily.remaining(now) > 0)
        ):
            return None
        wait_times = self._wait_times(now)
        # "The Retry-After field value SHOULD NOT reference a point in time earlier than the end of the effective
        # window" (section 6): so only the policies that refuse are listed.
        usage = ", ".join(f'"{name}";r=0;t={math.ceil(wait - _ROUNDING_ERROR)}' for name, wait in wait_times.items())
        return RateLimited(
            f"Used up: {', '.join(wait_times)}.",
            retry_after=max(wait_times.values()),
            headers=(*self._policy, ("RateLimit", usage)),
        )

    def _wait_times(self, now: float) -> dict[str, float]:
        """Each limit that refuses, and the seconds until it does not."""
        wait_times = {}
        if self.rate_limiter.blocked(now):
            wait_times["rate"] = self.rate_limiter.wait_time(now)
        if self.daily_quota is not None and self.daily_quota.remaining(now) <= 0:
            wait_times["daily"] = self.daily_quota.resets_in(now)
        if self.in_flight >= self.capacity:
            wait_times["concurrency"] = SLOT_RETRY_AFTER
        return wait_times

    def acquire(self, now: float) -> None:
        """Charge one request; the caller has asked `refusal` at the same `now`."""
        self.in_flight += 1
        self.rate_limiter.take(now)
        if self.daily_quota is not None:
            self.daily_quota.take()

    def release(self) -> None:
        """The request has left: its slot is free."""
        self.in_flight -= 1

    def refund(self) -> None:
        """The charges of a request that was not served go back; its slot is `free`'s."""
        self.rate_limiter.refund()
        if self.daily_quota is not None:
            self.daily_quota.refund()

    def header_fields(self, now: float) -> HeaderFields:
        """The header fields for an answer, with what is left after it."""
        daily, usage = self.daily_quota, ""
        if self._has_rate:
            remaining, more_in = self.rate_limiter.remaining(now)
            usage = f'"rate";r={remaining};t={more_in}'
        if daily is not None:
            separator = ", " if usage else ""
            usage += (
                f'{separator}"daily";r={daily.remaining(now)};t={math.ceil(daily.resets_in(now) - _ROUNDING_ERROR)}'
            )
        return (*self._policy, ("RateLimit", usage)) if usage else self._policy
