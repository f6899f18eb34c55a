"""A rate with a burst, exactly: the generic cell rate algorithm (ITU-T I.371), one number of state per bucket.

Own code on purpose: the libraries tell neither the exact wait in the same call, nor take several buckets as one.
"""

from __future__ import annotations

import math

from gateway.access.limits import Rate

GRACE = 1e-6  # seconds: sums of floats err by less, and a timer may ring that much early


class Bucket:
    """Lets `burst` requests through at once and then one every `interval` seconds; without a rate, everything.

    In any window of W seconds it lets at most burst + W / interval through. All times are monotonic, in seconds.
    """

    __slots__ = ("_full_at", "_slack", "burst", "interval", "tolerance")

    def __init__(self, rate: Rate | None, burst: int | None = None) -> None:
        self._full_at = -math.inf  # when the whole burst is there again: GCRA's theoretical arrival time
        self._shape(rate, burst)

    def reconfigure(self, rate: Rate | None, burst: int | None, now: float) -> None:
        """Another rate: what was used stays used, as far as the new burst goes."""
        self._shape(rate, burst)
        self._full_at = min(self._full_at, now + self.burst * self.interval)

    def _shape(self, rate: Rate | None, burst: int | None) -> None:
        self.interval = rate.per / rate.count if rate is not None else 0.0
        self.burst = (burst or rate.default_burst) if rate is not None else 0
        self._slack = (self.burst - 1) * self.interval if rate is not None else math.inf
        self.tolerance = self._slack + GRACE

    @property
    def limited(self) -> bool:
        """Whether there is a rate."""
        return self.interval > 0

    def blocked(self, now: float) -> bool:
        """Whether a request at `now` comes too early."""
        return now < self._full_at - self.tolerance

    def opens_at(self) -> float:
        """The moment from which on it is not `blocked`."""
        return self._full_at - self.tolerance

    def wait(self, now: float, count: int = 1) -> float:
        """Seconds until the last of `count` requests may pass, if each goes as soon as it may."""
        start = max(self._full_at, now)
        return max(0.0, start + (count - 1) * self.interval - self._slack - now)

    def mirror(self, full_at: float) -> None:
        """It is counted elsewhere: the whole burst is there again at `full_at`."""
        self._full_at = full_at

    def take(self, now: float) -> None:
        """Let one through; the caller has asked `blocked`."""
        self._full_at = max(self._full_at, now) + self.interval

    def refund(self) -> None:
        """Undo one `take`, as long as it has not been made good by time."""
        self._full_at -= self.interval

    def left(self, now: float) -> tuple[int, int]:
        """How many may pass right now, and in how many whole seconds (rounded up, at least 1) one more may."""
        passing = (now + self._slack - max(self._full_at, now)) / self.interval + 1.000001
        whole = int(passing) if passing > 0 else 0
        if self.interval <= 1:
            return whole, 1
        return whole, max(1, math.ceil((whole + 1 - passing) * self.interval))
