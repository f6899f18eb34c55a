"""A number of requests in a UTC day, whatever the wall clock does in between."""

from __future__ import annotations

import math
from datetime import UTC, timedelta

from gateway.clock import Clock
from gateway.limits.gcra import TIME_EPSILON

_MAX_CLOCK_STEP = 2 * 3600.0  # seconds: a wall clock that is set right moves by less


class DailyQuota:
    """Counts to `limit` until midnight UTC.

    The end of the day is fixed in monotonic time when its first request comes, so that a step of the wall clock neither
    gives nor takes quota (R87).
    """

    __slots__ = ("_clock", "_ends_at", "_used", "limit")

    def __init__(self, limit: int, clock: Clock) -> None:
        self.limit = limit
        self._clock = clock
        self._used = 0
        self._ends_at = -math.inf

    def remaining(self, now: float) -> int:
        """How many may still come in the day that `now` (monotonic) is in; opens that day."""
        if now + TIME_EPSILON >= self._ends_at:
            self._ends_at = now + self._day_length(now)
            self._used = 0
        return self.limit - self._used

    def take(self) -> None:
        """Count one; the caller has asked `left`."""
        self._used += 1

    def refund(self) -> None:
        """Undo one `take` of the same day."""
        self._used = max(0, self._used - 1)

    def sync(self, used: int, ends_at: float) -> None:
        """It is counted elsewhere: so many were used in the day that ends at `ends`."""
        self._used = used
        self._ends_at = ends_at

    def resets_in(self, now: float) -> float:
        """Seconds until the day that `left` opened ends."""
        return self._ends_at - now

    def _day_length(self, now: float) -> float:
        wall = self._clock.now().astimezone(UTC)
        midnight = wall.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
        length = (midnight - wall).total_seconds()
        # Yesterday ended just now, and yet midnight is still to come: the wall clock was set back, or is a little slow.
        if length < _MAX_CLOCK_STEP and now - self._ends_at < _MAX_CLOCK_STEP:
            length += timedelta(days=1).total_seconds()
        return length
