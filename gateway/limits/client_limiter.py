"""Limits of one client, team or key: rate limit, daily quota and concurrency limit, taken together or not at all."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias

from gateway.clock import Clock
from gateway.errors import RateLimited
from gateway.limits.config import SLOT_RETRY_AFTER, ClientLimitsConfig, HeaderFields
from gateway.limits.daily_quota import DailyQuota
from gateway.limits.gcra import TIME_EPSILON, RateLimiter

CallerScope: TypeAlias = Literal["client", "team", "key"]
"""What the limits of a caller belong to."""

_ROUNDING_ERROR = 1e-9  # seconds: rounding error of a sum of floats that stands for a whole number


@dataclass(frozen=True, slots=True)
class _PolicyNames:
    """Names of the policies in the header fields."""

    rate: str
    daily: str
    concurrency: str


_POLICY_NAMES: dict[CallerScope, _PolicyNames] = {
    "client": _PolicyNames("rate", "daily", "concurrency"),
    "team": _PolicyNames("team-rate", "team-daily", "team-concurrency"),
    "key": _PolicyNames("key-rate", "key-daily", "key-concurrency"),
}


class ClientLimiter:
    """Usage of one client, team or key, and its header fields (draft-ietf-httpapi-ratelimit-headers-11).

    The fields are two Lists of Items: `RateLimit-Policy: "rate";q=40;w=2, "daily";q=10000;w=86400` (quota per window of
    seconds) and `RateLimit: "rate";r=39;t=1, "daily";r=9999;t=43200` (remaining, and the seconds until it grows). The
    policies of a team and of a key have names such as `team-rate` and `key-daily`.
    """

    __slots__ = (
        "_clock",
        "_daily_item",
        "_names",
        "_policy",
        "_rate_item",
        "capacity",
        "daily_quota",
        "in_flight",
        "rate_limiter",
        "scope",
        "waiting",
    )

    def __init__(self, limits: ClientLimitsConfig, clock: Clock, scope: CallerScope = "client") -> None:
        self.scope = scope
        self._names = _POLICY_NAMES[scope]
        self.in_flight = 0
        self.waiting = 0
        """Requests that wait in a queue; they hold nothing, and need this limiter later."""
        self._clock = clock
        self.rate_limiter = RateLimiter(limits.rate, limits.burst)
        self.daily_quota: DailyQuota | None = None
        self._apply(limits)

    def reconfigure(self, limits: ClientLimitsConfig, now: float) -> None:
        """Apply other limits; usage is kept."""
        self.rate_limiter.reconfigure(limits.rate, limits.burst, now)
        self._apply(limits)

    def _apply(self, limits: ClientLimitsConfig) -> None:
        self.capacity = math.inf if limits.concurrency is None else limits.concurrency
        self._rate_item = "" if limits.rate is None else f'"{self._names.rate}";r='
        self._daily_item = f'{", " if self._rate_item else ""}"{self._names.daily}";r='
        if limits.daily is None:
            self.daily_quota = None
        elif self.daily_quota is None:
            self.daily_quota = DailyQuota(limits.daily, self._clock)
        else:
            self.daily_quota.limit = limits.daily
        self._policy = self._render_policy(limits)

    def _render_policy(self, limits: ClientLimitsConfig) -> HeaderFields:
        items = []
        if limits.rate is not None:
            window = math.ceil(self.rate_limiter.burst * self.rate_limiter.interval - TIME_EPSILON)
            items.append(f'"{self._names.rate}";q={self.rate_limiter.burst};w={max(1, window)}')
        if limits.daily is not None:
            items.append(f'"{self._names.daily}";q={limits.daily};w=86400')
        if limits.concurrency is not None:
            items.append(f'"{self._names.concurrency}";q={limits.concurrency};qu="concurrent-requests"')
        return (("RateLimit-Policy", ", ".join(items)),) if items else ()

    def blocked(self, now: float) -> bool:
        """Return True if one more request at `now` exceeds a limit."""
        daily, rate = self.daily_quota, self.rate_limiter
        # `remaining` starts a new day if one is due, which is of interest only if the last one is used up.
        return (
            self.in_flight >= self.capacity
            or now < rate.full_at - rate.tolerance
            or (daily is not None and daily.used >= daily.limit and daily.remaining(now) <= 0)
        )

    def refusal(self, now: float) -> RateLimited | None:
        """Return the error of one more request at `now`, with Retry-After and header fields; None if it is allowed."""
        if not self.blocked(now):
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
        """Return the seconds until each exceeded limit allows a request, by the name of the limit."""
        wait_times = {}
        if self.rate_limiter.blocked(now):
            wait_times[self._names.rate] = self.rate_limiter.wait_time(now)
        if self.daily_quota is not None and self.daily_quota.remaining(now) <= 0:
            wait_times[self._names.daily] = self.daily_quota.resets_in(now)
        if self.in_flight >= self.capacity:
            wait_times[self._names.concurrency] = SLOT_RETRY_AFTER
        return wait_times

    def take(self, now: float) -> None:
        """Charge one request and take a slot; `blocked` was False at the same `now`."""
        self.in_flight += 1
        rate = self.rate_limiter
        rate.full_at = max(now, rate.full_at) + rate.interval
        if self.daily_quota is not None:
            self.daily_quota.take(now)

    def take_slot(self) -> None:
        """Take one slot, without a charge."""
        self.in_flight += 1

    def release(self) -> None:
        """Free one slot."""
        self.in_flight -= 1

    def refund(self) -> None:
        """Give the charges of one request back, but not its slot."""
        self.rate_limiter.refund()
        if self.daily_quota is not None:
            self.daily_quota.refund()

    def header_fields(self, now: float) -> HeaderFields:
        """Return the header fields of a response, with the remaining quota."""
        daily, usage = self.daily_quota, ""
        if self._rate_item:
            remaining, more_in = self.rate_limiter.remaining(now)
            usage = f"{self._rate_item}{remaining};t={more_in}"
        if daily is not None:
            left = daily.remaining(now)
            usage += f"{self._daily_item}{left};t={math.ceil(daily.day - now - _ROUNDING_ERROR)}"
        return (*self._policy, ("RateLimit", usage)) if usage else self._policy
