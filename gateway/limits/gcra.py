"""A rate with a burst, exactly: the generic cell rate algorithm (ITU-T I.371), one number of state per bucket.

Own code on purpose: the libraries tell neither the exact wait in the same call, nor take several buckets as one.
"""

from __future__ import annotations

import math

from gateway.limits.contract import RateLimit

TIME_EPSILON = 1e-6  # seconds: sums of floats err by less, and a timer may ring that much early


class RateLimiter:
    """Lets `burst` requests through at once and then one every `interval` seconds; without a rate, everything.

    In any window of W seconds it lets at most burst + W / interval through. All times are monotonic, in seconds.
    """

    __slots__ = ("_burst_tolerance", "_theoretical_arrival", "burst", "interval", "tolerance")

    def __init__(self, rate: RateLimit | None, burst: int | None = None) -> None:
        self._theoretical_arrival = -math.inf  # when the whole burst is there again: GCRA's theoretical arrival time
        self._apply(rate, burst)

    def reconfigure(self, rate: RateLimit | None, burst: int | None, now: float) -> None:
        """Another rate: what was used stays used, as far as the new burst goes."""
        self._apply(rate, burst)
        self._theoretical_arrival = min(self._theoretical_arrival, now + self.burst * self.interval)

    def _apply(self, rate: RateLimit | None, burst: int | None) -> None:
        self.interval = rate.per / rate.count if rate is not None else 0.0
        self.burst = (burst or rate.default_burst) if rate is not None else 0
        self._burst_tolerance = (self.burst - 1) * self.interval if rate is not None else math.inf
        self.tolerance = self._burst_tolerance + TIME_EPSILON

    @property
    def limited(self) -> bool:
        """Whether there is a rate."""
        return self.interval > 0

    def blocked(self, now: float) -> bool:
        """Whether a request at `now` comes too early."""
        return now < self._theoretical_arrival - self.tolerance

    def available_at(self) -> float:
        """The moment from which on it is not `blocked`."""
        return self._theoretical_arrival - self.tolerance

    def wait_time(self, now: float, count: int = 1) -> float:
        """Seconds until the last of `count` requests may pass, if each goes as soon as it may."""
        start = max(self._theoretical_arrival, now)
        return max(0.0, start + (count - 1) * self.interval - self._burst_tolerance - now)

    def sync(self, theoretical_arrival: float) -> None:
        """It is counted elsewhere: the whole burst is there again at `full_at`."""
        self._theoretical_arrival = theoretical_arrival

    def take(self, now: float) -> None:
        """Let one through; the caller has asked `blocked`."""
        self._theoretical_arrival = max(self._theoretical_arrival, now) + self.interval

    def refund(self) -> None:
        """Undo one `take`, as long as it has not been made good by time."""
        self._theoretical_arrival -= self.interval

    def remaining(self, now: float) -> tuple[int, int]:
        """How many may pass right now, and in how many whole seconds (rounded up, at least 1) one more may."""
        available = (now + self._burst_tolerance - max(self._theoretical_arrival, now)) / self.interval + 1.000001
        remaining = int(available) if available > 0 else 0
        if self.interval <= 1:
            return remaining, 1
        return remaining, max(1, math.ceil((remaining + 1 - available) * self.interval))
