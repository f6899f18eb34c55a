"""Daily quota: a number of requests per UTC day, independent of steps of the wall clock."""

from __future__ import annotations

import math
from datetime import UTC, timedelta

from gateway.clock import Clock
from gateway.limits.gcra import TIME_EPSILON

_MAX_CLOCK_STEP = 2 * 3600.0  # seconds: a correction of the wall clock is smaller
_MAX_DAY = 86400 + _MAX_CLOCK_STEP  # seconds


class DailyQuota:
    """Counts to `limit` until midnight UTC.

    The first request of a day fixes the end of the day in monotonic time, so that a step of the wall clock neither adds
    nor removes quota.
    """

    __slots__ = ("_clock", "_ends_at", "_record_above", "_used", "limit", "recorded")

    def __init__(self, limit: int, clock: Clock) -> None:
        self.limit = limit
        self._clock = clock
        self._used = 0
        self._ends_at = -math.inf
        self.recorded: float = math.inf
        """Requests of this day that a store counts; infinite without a store."""
        self._record_above: float = math.inf

    @property
    def used(self) -> int:
        """The number of requests of the current day."""
        return self._used

    @property
    def day(self) -> float:
        """The end of the current day (monotonic seconds), which identifies it."""
        return self._ends_at

    @property
    def record_due(self) -> bool:
        """True if the store counts fewer requests than were taken, or will soon."""
        return self._used > self._record_above

    @property
    def next_is_recorded(self) -> bool:
        """True if the store counts the next request of the day already, so that it need not wait for the store."""
        return self._used < self._record_above

    def remaining(self, now: float) -> int:
        """Return the quota left at `now` (monotonic seconds); starts a new day if the last one has ended."""
        if now + TIME_EPSILON >= self._ends_at:
            self._ends_at = now + self._day_length(now)
            self._used = 0
            if self.recorded != math.inf:
                self.recorded = self._record_above = 0
        return self.limit - self._used

    def take(self) -> None:
        """Count one request; `remaining` was positive."""
        self._used += 1

    def refund(self) -> None:
        """Undo one `take` of the same day."""
        self._used = max(0, self._used - 1)

    def sync(self, used: int, ends_at: float) -> None:
        """Copy the state of a server: `used` requests in the day that ends at `ends_at` (monotonic seconds)."""
        self._used = used
        self._ends_at = ends_at

    def restore(self, used: int, ends_in: float, now: float) -> None:
        """Count from now on for a store that has counted `used` requests of a day that ends in `ends_in` seconds.

        Requests taken already are of the same day. A day that has ended, or that is not today by the wall clock, does
        not count.
        """
        if 0 < ends_in < _MAX_DAY:
            self.remaining(now)
            self._used += used
            self._ends_at = now + ends_in
        self.recorded = self._record_above = used if 0 < ends_in < _MAX_DAY else 0

    def set_recorded(self, recorded: int, *, refill_below: int) -> None:
        """Note that a store counts `recorded` requests; more are to be recorded once fewer than these are left."""
        self.recorded = recorded
        self._record_above = recorded - refill_below

    def resets_in(self, now: float) -> float:
        """Return the seconds until the current day ends; `remaining` was called at the same `now`."""
        return self._ends_at - now

    def _day_length(self, now: float) -> float:
        wall = self._clock.now().astimezone(UTC)
        midnight = wall.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
        length = (midnight - wall).total_seconds()
        # The last day has just ended, but midnight is still ahead: the wall clock was set back, or is slow.
        if length < _MAX_CLOCK_STEP and now - self._ends_at < _MAX_CLOCK_STEP:
            length += timedelta(days=1).total_seconds()
        return length
