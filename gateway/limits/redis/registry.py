"""What replicas count together, by name: mirrors of what the server counts, which stand in for it when it is lost."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import cast

from gateway.clock import Clock
from gateway.limits.client_limiter import ClientLimiter
from gateway.limits.contract import ClientLimitsConfig, OnDecision, RateLimit, SharedLimitsConfig
from gateway.limits.daily_quota import DailyQuota
from gateway.limits.gcra import RateLimiter
from gateway.limits.redis.counters import KEY_PREFIX, RedisCounter, RedisCounters
from gateway.limits.redis.provider_queue import RedisProviderQueue
from gateway.limits.registry import LimiterRegistry
from gateway.limits.shared_limiter import SharedLimiter


@dataclass(frozen=True, slots=True)
class LimitsConfig:
    """All limits, by name."""

    clients: Mapping[str, ClientLimitsConfig]
    workflows: Mapping[str, SharedLimitsConfig]
    providers: Mapping[str, SharedLimitsConfig]

    def per_replica(self, replicas: int) -> LimitsConfig:
        """What one of so many replicas may take for itself: of each rate, burst, day and number of slots, its part."""
        if replicas == 1:
            return self
        return LimitsConfig(
            {name: _client_limits_share(limits, replicas) for name, limits in self.clients.items()},
            {name: _shared_limits_share(limits, replicas) for name, limits in self.workflows.items()},
            {name: _shared_limits_share(limits, replicas) for name, limits in self.providers.items()},
        )


class RedisRegistry(LimiterRegistry):
    """Accounts, gates and lanes that mirror the server's counts; while it is lost, they count for themselves."""

    def __init__(
        self, clock: Clock, counters: RedisCounters, limits: LimitsConfig, on_decision: OnDecision | None
    ) -> None:
        self.counters = counters
        self._counters_by_limiter: dict[ClientLimiter | SharedLimiter, tuple[RedisCounter, ...]] = {}
        self._counters_cache: dict[tuple[ClientLimiter | SharedLimiter | None, ...], tuple[RedisCounter, ...]] = {}
        self._config = limits
        super().__init__(
            clock,
            clients=limits.clients,
            workflows=limits.workflows,
            providers=limits.providers,
            on_decision=on_decision,
        )
        self._build_counters()

    def apply_config(self, limits: LimitsConfig) -> None:
        """Other limits: see `Limits.reconfigure`."""
        self._config = limits
        effective = limits if self.counters.connected else limits.per_replica(self.counters.replica_count)
        self.reconfigure(clients=effective.clients, workflows=effective.workflows, providers=effective.providers)
        self._build_counters()
        self.dispatch_all()

    def counters_of(self, *limiters: ClientLimiter | SharedLimiter | None) -> tuple[RedisCounter, ...]:
        """The buckets of these."""
        counters = self._counters_cache.get(limiters)
        if counters is None:
            counters = tuple(
                counter for one in limiters if one is not None for counter in self._counters_by_limiter.get(one, ())
            )
            if all(
                one is None or one in self._counters_by_limiter for one in limiters
            ):  # so it is bounded by the configuration
                self._counters_cache[limiters] = counters
        return counters

    def rate_counters(self, limiter: SharedLimiter) -> tuple[RedisCounter, ...]:
        """The rate of a gate alone: what a call of a run that has its slot takes."""
        return tuple(counter for counter in self._counters_by_limiter.get(limiter, ()) if counter.kind == "rate")

    def dispatch_all(self) -> None:
        """Let everybody go whose turn has come."""
        for queue in self._provider_queues.values():
            queue.dispatch()

    def provider_queue(self, provider: str) -> RedisProviderQueue:
        """The way to the provider."""
        return cast("RedisProviderQueue", super().provider_queue(provider))

    def _make_queue(self, limits: SharedLimitsConfig) -> RedisProviderQueue:
        return RedisProviderQueue(limits, self._clock, self.on_decision, self.counters)

    def on_connection_change(self) -> None:
        """From now on other limits hold. Counting for itself, a replica knows of its own slots only."""
        for limiter, counters in self._counters_by_limiter.items():
            limiter.in_flight = sum(
                self.counters.own_count(counter.key) for counter in counters if counter.kind == "slots"
            )
        self.apply_config(self._config)

    def _build_counters(self) -> None:
        self._counters_cache = {}
        self._counters_by_limiter = {
            client_limiter: _client_counters(name, client_limiter)
            for name, client_limiter in self.client_limiters.items()
        }
        for limiters in (
            self._workflow_limiters,
            {name: queue.limiter for name, queue in self._provider_queues.items()},
        ):
            self._counters_by_limiter |= {
                limiter: _shared_counters(name, limiter) for name, limiter in limiters.items()
            }
        self._counters_by_limiter |= dict.fromkeys((self._unlimited_workflow, self._unlimited_queue.limiter), ())


def _client_counters(name: str, limiter: ClientLimiter) -> tuple[RedisCounter, ...]:
    key = f"{KEY_PREFIX}client:{name}:"
    daily = [] if limiter.daily_quota is None else [_daily_counter(key, limiter.daily_quota)]
    return (*_rate_counters(key, limiter.rate_limiter), *daily, *_slot_counters(key, limiter, fair=0))


def _shared_counters(name: str, limiter: SharedLimiter) -> tuple[RedisCounter, ...]:
    key = f"{KEY_PREFIX}{limiter.scope}:{name}:"
    return (*_rate_counters(key, limiter.rate_limiter), *_slot_counters(key, limiter, fair=1))


def _rate_counters(key: str, limiter: RateLimiter) -> list[RedisCounter]:
    def update(now: float, value: str) -> None:
        limiter.sync(now + float(value))

    return (
        [RedisCounter(key + "rate", "rate", (limiter.interval, limiter.tolerance), update)] if limiter.limited else []
    )


def _daily_counter(key: str, quota: DailyQuota) -> RedisCounter:
    def update(now: float, value: str) -> None:
        used, _, remaining = value.partition(" ")
        quota.sync(int(float(used)), now + float(remaining))

    return RedisCounter(key + "daily", "daily", (quota.limit, 0), update)


def _slot_counters(key: str, limiter: ClientLimiter | SharedLimiter, *, fair: int) -> list[RedisCounter]:
    def update(_: float, value: str) -> None:
        limiter.in_flight = int(float(value))

    return (
        [RedisCounter(key + "slots", "slots", (limiter.capacity, fair), update)] if limiter.capacity < math.inf else []
    )


def _client_limits_share(limits: ClientLimitsConfig, replicas: int) -> ClientLimitsConfig:
    rate, burst = _rate_share(limits.rate, limits.burst, replicas)
    slots, daily = _count_share(limits.concurrency, replicas), _count_share(limits.daily, replicas)
    return ClientLimitsConfig(rate, burst, slots, daily)


def _shared_limits_share(limits: SharedLimitsConfig, replicas: int) -> SharedLimitsConfig:
    rate, burst = _rate_share(limits.rate, limits.burst, replicas)
    return replace(limits, rate=rate, burst=burst, concurrency=_count_share(limits.concurrency, replicas))


def _rate_share(rate: RateLimit | None, burst: int | None, replicas: int) -> tuple[RateLimit | None, int | None]:
    if rate is None:
        return None, None
    return RateLimit(rate.count / replicas, rate.per), _count_share(burst or rate.default_burst, replicas)


def _count_share(count: int | None, replicas: int) -> int | None:
    return None if count is None else min(count, max(1, count // replicas))
