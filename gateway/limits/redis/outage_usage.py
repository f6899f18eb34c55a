"""Usage of rates and daily quotas during an outage of the server, charged to the server afterwards.

Without it each outage would allow a further burst: the server did not count the requests that were taken meanwhile,
and if it lost its data, it does not know those before either.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias

from gateway.limits.daily_quota import DailyQuota
from gateway.limits.gcra import RateLimiter
from gateway.limits.redis.counter_bindings import RedisCounter

Charge: TypeAlias = tuple[float, float]
"""Usage to add to a counter: the usage before the outage, which the server may have lost, in the unit of the counter
(seconds until the whole burst of a rate is available again, or requests of the current day); and the requests since.
"""


class OutageUsage:
    """Usage of the local copies at the beginning of an outage. Times are monotonic seconds."""

    def __init__(self, counters: Iterable[RedisCounter]) -> None:
        """Note what the server has counted so far."""
        self._known = {counter.key: _position(counter) for counter in counters}
        self._start: dict[str, tuple[float, float]] = {}

    def begin(self, counters: Iterable[RedisCounter]) -> None:
        """Note the usage by which this process starts to count for itself: reduced to its share of a burst."""
        self._start = {counter.key: _position(counter) for counter in counters}

    def charges(self, counters: Iterable[RedisCounter], now: float) -> dict[str, Charge]:
        """Return the charges by key, of the counters that have any usage.

        The local copies still have the share of this process.
        """
        charges = {}
        for counter in counters:
            if counter.key in self._start:  # else it was configured during the outage
                known = self._known.get(counter.key, self._start[counter.key])
                charges[counter.key] = _charge(counter, known, self._start[counter.key], now)
        return {key: charge for key, charge in charges.items() if any(charge)}


def _position(counter: RedisCounter) -> tuple[float, float]:
    """Return the state of the local copy: its time or its count, and the day of the count."""
    match counter.copy:
        case RateLimiter() as rate:
            return rate.full_at, 0.0
        case DailyQuota() as quota:
            return quota.used, quota.day
        case None:
            return 0.0, 0.0


def _charge(counter: RedisCounter, known: tuple[float, float], start: tuple[float, float], now: float) -> Charge:
    match counter.copy:
        case RateLimiter() as rate:
            backlog = max(0.0, rate.full_at - max(start[0], now))
            return max(0.0, known[0] - now), round(backlog / rate.interval, 6)
        case DailyQuota() as quota if quota.day > now:
            same_day = quota.day == start[1]
            return (known[0], quota.used - start[0]) if same_day else (0, quota.used)
        case _:
            return 0, 0
