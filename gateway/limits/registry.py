"""Registry of the limiters of clients, teams, keys and workflows, and of the wait queues of all providers, by name."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import NamedTuple, TypeAlias

from gateway.clock import Clock
from gateway.limits.client_limiter import CallerScope, ClientLimiter
from gateway.limits.config import (
    ClientLimitsConfig,
    KeyLimits,
    LimitsConfig,
    LimitScope,
    OnDecision,
    ResourceLimitsConfig,
    client_share,
)
from gateway.limits.counters import Counters
from gateway.limits.daily_usage import DailyUsageRecorder
from gateway.limits.queue.provider_queue import ProviderQueue
from gateway.limits.resource_limiter import ResourceLimiter

_MAX_KEYS = 10_000  # key limiters; the least recently used one without a request is dropped
_MAX_STARTS = 10_000  # pairs of a client and a workflow whose limiters are kept

Callers: TypeAlias = tuple[ClientLimiter, ...]
"""Limiters of a client, of its team and of its key, as far as these have limits."""


class StartLimiters(NamedTuple):
    """Limiters that a start takes from; `parts` are all of them.

    `limited_scopes`: the scopes of those with limits, for the metrics.
    """

    callers: Callers
    workflow: ResourceLimiter
    queue: ProviderQueue
    parts: tuple[ClientLimiter | ResourceLimiter, ...]
    limited_scopes: tuple[LimitScope, ...]


class LimiterRegistry:
    """Limiters by name, as many as the configuration has. Names without limits share one unlimited limiter.

    Limits of keys come with the requests; at most 10 000 of their limiters are kept, but for those in use.
    """

    def __init__(self, clock: Clock, config: LimitsConfig, counters: Counters, on_decision: OnDecision | None) -> None:
        self.monotonic = clock.monotonic
        self.counters = counters
        self.on_decision = on_decision
        self._clock = clock
        self._config = config
        self.clients: dict[str, ClientLimiter] = {}
        self.teams: dict[str, ClientLimiter] = {}
        self._callers: dict[str, Callers] = {}
        self._starts: dict[tuple[str, str, str], StartLimiters] = {}
        self._keys: OrderedDict[str, ClientLimiter] = OrderedDict()
        self._key_limits: dict[str, ClientLimitsConfig] = {}
        self.workflows: dict[str, ResourceLimiter] = {}
        self.queues: dict[str, ProviderQueue] = {}
        self.usage_recorder: DailyUsageRecorder | None = None
        self._unlimited_workflow = ResourceLimiter("workflow")
        self._unlimited_queue = self._new_queue(ResourceLimitsConfig())
        self._apply()
        counters.on_change = self._apply

    def reconfigure(self, config: LimitsConfig) -> None:
        """Apply other limits. Limiters that remain keep usage and waiting requests; removed ones stop limiting."""
        self._config = config
        self._apply()

    def record_usage(self, recorder: DailyUsageRecorder) -> None:
        """Restore the usage of daily quotas, and record it from now on."""
        self.usage_recorder = recorder
        self._bind_quotas(recorder)

    def of_start(self, client: str, workflow: str, provider: str, key_limits: KeyLimits | None = None) -> StartLimiters:
        """Return the limiters that a start of a client on a workflow takes from."""
        if key_limits is not None and key_limits.limits != ClientLimitsConfig():
            return self.of_callers((*self._callers.get(client, ()), self._key(key_limits)), workflow, provider)
        names = (client, workflow, provider)
        limiters = self._starts.get(names)
        if limiters is None:
            if len(self._starts) >= _MAX_STARTS:
                self._starts.clear()
            limiters = self._starts[names] = self.of_callers(self._callers.get(client, ()), workflow, provider)
        return limiters

    def of_callers(self, callers: Callers, workflow: str, provider: str) -> StartLimiters:
        """Return the limiters that a start of these callers on a workflow takes from."""
        limiter, queue = self.workflows.get(workflow, self._unlimited_workflow), self.queue(provider)
        limited = (each.scope for each in (limiter, queue.limiter) if each.limited)
        scopes = (*(caller.scope for caller in callers), *limited)
        return StartLimiters(callers, limiter, queue, (*callers, limiter, queue.limiter), scopes)

    def queue(self, provider: str) -> ProviderQueue:
        """Return the wait queue of a provider."""
        return self.queues.get(provider, self._unlimited_queue)

    def _apply(self) -> None:
        """Apply the part of the configuration that holds for this process now."""
        config, now = self.counters.effective_config(self._config), self.monotonic()
        workflows, queues = self.workflows, self.queues
        self.clients = self._apply_callers("client", self.clients, config.clients)
        self.teams = self._apply_callers("team", self.teams, config.teams)
        self._callers = self._group_callers(config)
        for key_id, key in self._keys.items():
            key.reconfigure(self._effective_key_limits(self._key_limits[key_id]), now)
        self.workflows = {
            name: workflows.get(name) or ResourceLimiter("workflow", limits)
            for name, limits in config.workflows.items()
        }
        self.queues = {name: queues.get(name) or self._new_queue(limits) for name, limits in config.providers.items()}
        for name, workflow in workflows.items():
            workflow.reconfigure(config.workflows.get(name, ResourceLimitsConfig()), now)
        for name, queue in queues.items():
            queue.limiter.reconfigure(config.providers.get(name, ResourceLimitsConfig()), now)
        self._starts.clear()
        if self.usage_recorder is not None:
            self._bind_quotas(self.usage_recorder)
        self._register_limiters()
        for queue in queues.values():  # the new limits may admit waiting requests
            queue.dispatch_if_waiting()

    def _apply_callers(
        self, scope: CallerScope, before: Mapping[str, ClientLimiter], config: Mapping[str, ClientLimitsConfig]
    ) -> dict[str, ClientLimiter]:
        """Return the limiters of the names with limits; those of `before` keep their usage."""
        limited = {name: limits for name, limits in config.items() if limits != ClientLimitsConfig()}
        for name, limiter in before.items():
            limiter.reconfigure(limited.get(name, ClientLimitsConfig()), self.monotonic())
        return {name: before.get(name) or ClientLimiter(limits, self._clock, scope) for name, limits in limited.items()}

    def _group_callers(self, config: LimitsConfig) -> dict[str, Callers]:
        """Return the limiters of each client with its own limits or a team with limits."""
        callers: dict[str, Callers] = {name: (client,) for name, client in self.clients.items()}
        for client, team in config.team_of.items():
            if team in self.teams:
                callers[client] = (*callers.get(client, ()), self.teams[team])
        return callers

    def _key(self, key_limits: KeyLimits) -> ClientLimiter:
        key_id, limits = key_limits.key_id, key_limits.limits
        limiter = self._keys.get(key_id)
        if limiter is not None and self._key_limits[key_id] == limits:
            self._keys.move_to_end(key_id)
            return limiter
        self._key_limits[key_id] = limits
        effective = self._effective_key_limits(limits)
        if limiter is None:
            self._drop_unused_keys()
            limiter = self._keys[key_id] = ClientLimiter(effective, self._clock, "key")
        else:
            limiter.reconfigure(effective, self.monotonic())
        self.counters.register_one(f"key:{key_id}", limiter)
        if self.usage_recorder is not None:
            self._bind_quotas(self.usage_recorder)
        return limiter

    def _effective_key_limits(self, limits: ClientLimitsConfig) -> ClientLimitsConfig:
        return limits if self.counters.shared else client_share(limits, self.counters.replica_count)

    def _drop_unused_keys(self) -> None:
        while len(self._keys) >= _MAX_KEYS:
            unused = next((key_id for key_id, key in self._keys.items() if not (key.in_flight or key.waiting)), None)
            if unused is None:
                return
            self.counters.unregister(self._keys.pop(unused))
            del self._key_limits[unused]

    def _bind_quotas(self, recorder: DailyUsageRecorder) -> None:
        limiters = self._named_callers()
        recorder.bind({name: each.daily_quota for name, each in limiters.items() if each.daily_quota is not None})

    def _named_callers(self) -> dict[str, ClientLimiter]:
        """Return the limiters of clients, teams and keys by names that are unique, because names have no colon."""
        named = dict(self.clients)
        named |= {f"team:{name}": team for name, team in self.teams.items()}
        return named | {f"key:{key_id}": key for key_id, key in self._keys.items()}

    def _register_limiters(self) -> None:
        limiters: dict[str, ClientLimiter | ResourceLimiter] = {
            "workflow:": self._unlimited_workflow,
            "provider:": self._unlimited_queue.limiter,
        }
        limiters |= {f"client:{name}": client for name, client in self.clients.items()}
        limiters |= {f"team:{name}": team for name, team in self.teams.items()}
        limiters |= {f"key:{key_id}": key for key_id, key in self._keys.items()}
        limiters |= {f"workflow:{name}": workflow for name, workflow in self.workflows.items()}
        limiters |= {f"provider:{name}": queue.limiter for name, queue in self.queues.items()}
        self.counters.register(limiters)

    def _new_queue(self, limits: ResourceLimitsConfig) -> ProviderQueue:
        return ProviderQueue(limits, self._clock, self.counters, self.on_decision)
