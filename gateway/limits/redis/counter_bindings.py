"""Keys and script arguments of the counters in a Redis server, and the local copies that their replies update."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from gateway.limits.client_limiter import ClientLimiter
from gateway.limits.counters import Part
from gateway.limits.daily_quota import DailyQuota
from gateway.limits.gcra import RateLimiter
from gateway.limits.resource_limiter import ResourceLimiter

KEY_PREFIX = "runward:limits:1:"
"""1 is the version of this layout."""

Kind: TypeAlias = Literal["rate", "daily", "slots"]


@dataclass(frozen=True, slots=True)
class RedisCounter:
    """One counter: its key, its kind, the two numbers for the scripts, and the local copy.

    `numbers`: of a rate, the interval and the tolerance in seconds; of a daily quota, the limit and 0; of slots,
    their number and 1 if the limit has a wait queue, so that a slot can be reserved. `part`: the limiter that it
    belongs to. `update` is called with the monotonic time and the usage that a script returned. `copy`: the local copy
    of a rate or a daily quota.
    """

    part: Part
    key: str
    kind: Kind
    numbers: tuple[float, float]
    update: Callable[[float, str], None]
    copy: RateLimiter | DailyQuota | None = None
    arguments: tuple[str, str, str] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "arguments", (self.kind, *map(repr, self.numbers)))


def counters_of(name: str, limiter: ClientLimiter | ResourceLimiter) -> tuple[RedisCounter, ...]:
    """Return the counters of a limiter; none without limits."""
    key = f"{KEY_PREFIX}{name}:"
    counters = []
    if limiter.rate_limiter.limited:
        counters.append(_rate_counter(limiter, key, limiter.rate_limiter))
    if isinstance(limiter, ClientLimiter) and limiter.daily_quota is not None:
        counters.append(_daily_counter(limiter, key, limiter.daily_quota))
    if limiter.capacity < math.inf:
        counters.append(_slot_counter(limiter, key))
    return tuple(counters)


def _rate_counter(part: Part, key: str, rate: RateLimiter) -> RedisCounter:
    def update(now: float, usage: str) -> None:
        rate.sync(now + float(usage))

    return RedisCounter(part, key + "rate", "rate", (rate.interval, rate.tolerance), update, rate)


def _daily_counter(part: Part, key: str, quota: DailyQuota) -> RedisCounter:
    def update(now: float, usage: str) -> None:
        used, _, remaining = usage.partition(" ")
        quota.sync(int(float(used)), now + float(remaining))

    return RedisCounter(part, key + "daily", "daily", (quota.limit, 0), update, quota)


def _slot_counter(limiter: ClientLimiter | ResourceLimiter, key: str) -> RedisCounter:
    def update(_: float, usage: str) -> None:
        limiter.in_flight = int(float(usage))

    fair = isinstance(limiter, ResourceLimiter)
    return RedisCounter(limiter, key + "slots", "slots", (limiter.capacity, int(fair)), update)
