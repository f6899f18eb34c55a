"""Rate limit with a burst: the generic cell rate algorithm (GCRA, ITU-T I.371) with one number of state per limit.

Implemented here because the known libraries neither return the exact wait with the decision nor take several limits as
one.
"""

from __future__ import annotations

import math

from gateway.limits.config import RateLimit

TIME_EPSILON = 1e-6  # seconds: above the rounding error of sums of floats, and above the inaccuracy of a timer


class RateLimiter:
    """Allows `burst` requests at once and then one every `interval` seconds; without a rate, every request.

    Any window of W seconds has at most burst + W / interval requests. All times are monotonic seconds.
    """

    __slots__ = ("_burst_tolerance", "burst", "full_at", "interval", "tolerance")

    def __init__(self, rate: RateLimit | None, burst: int | None = None) -> None:
        self.full_at = -math.inf
        """GCRA's theoretical arrival time: the whole burst is available again."""
        self._apply(rate, burst)

    def reconfigure(self, rate: RateLimit | None, burst: int | None, now: float) -> None:
        """Apply another rate; usage is kept, up to the new burst."""
        self._apply(rate, burst)
        self.full_at = min(self.full_at, now + self.burst * self.interval)

    def _apply(self, rate: RateLimit | None, burst: int | None) -> None:
        self.interval = rate.per / rate.count if rate is not None else 0.0
        self.burst = (burst or rate.default_burst) if rate is not None else 0
        self._burst_tolerance = (self.burst - 1) * self.interval if rate is not None else math.inf
        self.tolerance = self._burst_tolerance + TIME_EPSILON

    @property
    def limited(self) -> bool:
        """True if there is a rate."""
        return self.interval > 0

    def blocked(self, now: float) -> bool:
        """Return True if a request at `now` is too early."""
        return now < self.full_at - self.tolerance

    def available_at(self) -> float:
        """Return the time from which it is not blocked."""
        return self.full_at - self.tolerance

    def wait_time(self, now: float, count: int = 1) -> float:
        """Return the seconds until `count` requests, sent as early as allowed, have all been allowed."""
        start = max(self.full_at, now)
        return max(0.0, start + (count - 1) * self.interval - self._burst_tolerance - now)

    def sync(self, theoretical_arrival: float) -> None:
        """Copy the state of a server: the whole burst is available again at `theoretical_arrival`."""
        self.full_at = theoretical_arrival

    def take(self, now: float) -> None:
        """Charge one request; `blocked` was False at the same `now`."""
        self.full_at = max(self.full_at, now) + self.interval

    def take_slot(self) -> None:
        """Do nothing: a rate has no slots."""

    def release(self) -> None:
        """Do nothing: a rate has no slots."""

    def refund(self) -> None:
        """Undo one `take`, as far as time has not restored it already."""
        self.full_at -= self.interval

    def remaining(self, now: float) -> tuple[int, int]:
        """Return the number of requests allowed at `now`, and the seconds (whole, at least 1) until it grows."""
        full_in = self.full_at - now if self.full_at > now else 0.0
        available = (self._burst_tolerance - full_in) / self.interval + 1.000001
        remaining = int(available) if available > 0 else 0
        if self.interval <= 1:
            return remaining, 1
        return remaining, max(1, math.ceil((remaining + 1 - available) * self.interval))
