"""Configuration of the rate limits and concurrency limits of clients, workflows and providers."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias

HeaderFields: TypeAlias = tuple[tuple[str, str], ...]
"""Header fields of a response: names and values."""

LimitScope: TypeAlias = Literal["client", "team", "key", "workflow", "provider"]
Decision: TypeAlias = Literal["admitted", "waited", "refused"]
OnDecision: TypeAlias = Callable[[LimitScope, Decision], None]
"""Called once per request or call with the decision of each limited scope."""

SLOT_RETRY_AFTER = 1.0  # seconds, the Retry-After of a missing slot: the time until one is free is not known


@dataclass(frozen=True, slots=True)
class RateLimit:
    """`count` requests per `per` seconds. Raises ValueError unless both are positive and finite."""

    count: float
    per: float = 1.0

    def __post_init__(self) -> None:
        if not (0 < self.count < math.inf and 0 < self.per < math.inf):
            raise ValueError("a rate is a positive number of requests in a positive number of seconds")

    @property
    def default_burst(self) -> int:
        """Return the burst if none is configured: the requests of one second, at least one."""
        return max(1, math.ceil(self.count / self.per))


@dataclass(frozen=True, slots=True)
class ClientLimitsConfig:
    """Limits of one client, team or key. None: no such limit. `daily`: requests per UTC day."""

    rate: RateLimit | None = None
    burst: int | None = None
    concurrency: int | None = None
    daily: int | None = None


@dataclass(frozen=True, slots=True)
class KeyLimits:
    """Limits of one key, in addition to those of its client. `key_id`: not the key itself."""

    key_id: str
    limits: ClientLimitsConfig


@dataclass(frozen=True, slots=True)
class ResourceLimitsConfig:
    """Limits of a workflow or provider, over all clients. None: no such limit. `max_wait`: seconds in the queue."""

    rate: RateLimit | None = None
    burst: int | None = None
    concurrency: int | None = None
    max_wait: float = 1.0


@dataclass(frozen=True, slots=True)
class LimitsConfig:
    """All limits, by the names of the configuration. A name without an entry has no limits.

    `team_of`: the team of each client that has one.
    """

    clients: Mapping[str, ClientLimitsConfig] = field(default_factory=dict)
    workflows: Mapping[str, ResourceLimitsConfig] = field(default_factory=dict)
    providers: Mapping[str, ResourceLimitsConfig] = field(default_factory=dict)
    teams: Mapping[str, ClientLimitsConfig] = field(default_factory=dict)
    team_of: Mapping[str, str] = field(default_factory=dict)

    def per_replica(self, replicas: int) -> LimitsConfig:
        """Return the share of one of `replicas` replicas: of each rate, burst, daily quota and number of slots."""
        if replicas == 1:
            return self
        return LimitsConfig(
            {name: client_share(limits, replicas) for name, limits in self.clients.items()},
            {name: _shared_share(limits, replicas) for name, limits in self.workflows.items()},
            {name: _shared_share(limits, replicas) for name, limits in self.providers.items()},
            {name: client_share(limits, replicas) for name, limits in self.teams.items()},
            self.team_of,
        )


@dataclass(frozen=True, slots=True)
class LimiterSnapshot:
    """State of a limiter for inspection: slots in use by name of limited scopes, and the requests that wait.

    `timers`: number of providers with a running timer. `shared`: a server counts for `replicas` replicas.
    """

    clients: Mapping[str, int]
    teams: Mapping[str, int]
    workflows: Mapping[str, int]
    providers: Mapping[str, int]
    waiting: Mapping[str, int]
    timers: int
    shared: bool
    replicas: int


def client_share(limits: ClientLimitsConfig, replicas: int) -> ClientLimitsConfig:
    """Return the share of one of `replicas` replicas of the limits of a client, team or key."""
    rate, burst = _rate_share(limits.rate, limits.burst, replicas)
    slots, daily = _count_share(limits.concurrency, replicas), _count_share(limits.daily, replicas)
    return ClientLimitsConfig(rate, burst, slots, daily)


def _shared_share(limits: ResourceLimitsConfig, replicas: int) -> ResourceLimitsConfig:
    rate, burst = _rate_share(limits.rate, limits.burst, replicas)
    return replace(limits, rate=rate, burst=burst, concurrency=_count_share(limits.concurrency, replicas))


def _rate_share(rate: RateLimit | None, burst: int | None, replicas: int) -> tuple[RateLimit | None, int | None]:
    if rate is None:
        return None, None
    return RateLimit(rate.count / replicas, rate.per), _count_share(burst or rate.default_burst, replicas)


def _count_share(count: int | None, replicas: int) -> int | None:
    return None if count is None else min(count, max(1, count // replicas))
