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

    __slots__ = ("_clock", "_record_above", "day", "limit", "recorded", "used")

    def __init__(self, limit: int, clock: Clock) -> None:
        self.limit = limit
        self._clock = clock
        self.used = 0
        """Requests of the current day."""
        self.day = -math.inf
        """The end of the current day (monotonic seconds), which identifies it."""
        self.recorded: float = math.inf
        """Requests of this day that a store counts; infinite without a store."""
        self._record_above: float = math.inf

    @property
    def record_due(self) -> bool:
        """True if the store counts fewer requests than were taken, or will soon."""
        return self.used > self._record_above

    def next_is_recorded(self, now: float) -> bool:
        """Return whether a store counts the next request, at `now`, already, so that it need not wait for the store."""
        if now + TIME_EPSILON >= self.day:
            self._start_day(now)
        return self.used < self._record_above

    def remaining(self, now: float) -> int:
        """Return the quota left at `now` (monotonic seconds); starts a new day if the last one has ended."""
        if now + TIME_EPSILON >= self.day:
            self._start_day(now)
        return self.limit - self.used

    def take(self, now: float) -> None:
        """Count one request; `remaining` is positive at the same `now`."""
        if now + TIME_EPSILON >= self.day:
            self._start_day(now)
        self.used += 1

    def refund(self) -> None:
        """Undo one `take` of the same day."""
        self.used = max(0, self.used - 1)

    def sync(self, used: int, ends_at: float) -> None:
        """Copy the state of a server: `used` requests in the day that ends at `ends_at` (monotonic seconds)."""
        self.used = used
        self.day = ends_at

    def restore(self, used: int, ends_in: float, now: float) -> None:
        """Count from now on for a store that has counted `used` requests of a day that ends in `ends_in` seconds.

        Requests taken already are of the same day. A day that has ended, or that is not today by the wall clock, does
        not count.
        """
        if 0 < ends_in < _MAX_DAY:
            self.remaining(now)
            self.used += used
            self.day = now + ends_in
        self.recorded = self._record_above = used if 0 < ends_in < _MAX_DAY else 0

    def set_recorded(self, recorded: int, *, refill_below: int) -> None:
        """Note that a store counts `recorded` requests; more are to be recorded once fewer than these are left."""
        self.recorded = recorded
        self._record_above = recorded - refill_below

    def resets_in(self, now: float) -> float:
        """Return the seconds until the current day ends; `remaining` was called at the same `now`."""
        return self.day - now

    def _start_day(self, now: float) -> None:
        self.day = now + self._day_length(now)
        self.used = 0
        if self.recorded != math.inf:
            self.recorded = self._record_above = 0

    def _day_length(self, now: float) -> float:
        wall = self._clock.now().astimezone(UTC)
        midnight = wall.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
        length = (midnight - wall).total_seconds()
        # The last day has just ended, but midnight is still ahead: the wall clock was set back, or is slow.
        if length < _MAX_CLOCK_STEP and now - self.day < _MAX_CLOCK_STEP:
            length += timedelta(days=1).total_seconds()
        return length
