"""Turns the settings into the objects that the rooms work with."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from importlib.metadata import entry_points, version
from typing import cast

from structlog.typing import FilteringBoundLogger

from gateway.auth.client import Client
from gateway.auth.keys import KeyRing
from gateway.clock import Clock
from gateway.limits import contract
from gateway.limits.limiter import Limiter
from gateway.limits.redis.counters import RedisCounters
from gateway.observability.metrics import Metrics
from gateway.outbound.provider.client import ProviderClient, ProviderEndpoint
from gateway.outbound.webhook.egress_policy import EgressPolicy
from gateway.outbound.webhook.sender import WebhookSender
from gateway.passthrough_rules import PassthroughRule
from gateway.runs.callbacks.webhook import signing_key
from gateway.runs.catalog import Provider, Workflow
from gateway.runs.resilience.circuit_breaker import BreakerConfig
from gateway.runs.resilience.retry import RetryPolicy
from gateway.settings import Settings, SettingsError
from gateway.settings.resources import LimitSettings, ProviderSettings, WorkflowSettings
from gateway.settings.units import RateSpec
from gateway.store import factory
from providers.contract import Adapter, AdapterFactory

_LIMITER_TIMEOUT = 0.5  # seconds, then limits are counted here
ADAPTER_ENTRY_POINTS = "runward.providers"
"""The group of entry points in which installed packages announce adapters."""


def upstreams(
    settings: Settings, adapters: Mapping[str, Adapter], clock: Clock, metrics: Metrics
) -> dict[str, ProviderClient]:
    """Build the door to every provider; it opens nothing before it is used. SettingsError where one trusts nobody."""
    return {
        name: _upstream(_origin(name, provider, adapters[name]), clock, metrics)
        for name, provider in settings.providers.items()
    }


def _upstream(origin: ProviderEndpoint, clock: Clock, metrics: Metrics) -> ProviderClient:
    try:
        return ProviderClient(origin, clock=clock, metrics=metrics)
    except ssl.SSLError:
        raise SettingsError([(f"providers.{origin.provider}.ca_file", "holds no certificate")]) from None


def adapters(settings: Settings) -> dict[str, Adapter]:
    """Find and build every provider's adapter.

    Raises SettingsError where no installed package has it, or where it does not know the dialect.
    """
    return {name: adapter(name, settings) for name in settings.providers}


def adapter(name: str, settings: Settings) -> Adapter:
    """Find and build one provider's adapter, likewise."""
    provider = settings.providers[name]
    entries = entry_points(group=ADAPTER_ENTRY_POINTS, name=provider.adapter)
    if not entries:
        known = ", ".join(sorted(entry_points(group=ADAPTER_ENTRY_POINTS).names))
        raise SettingsError([(f"providers.{name}.adapter", f"no such adapter is installed; there are: {known}")])
    factory = cast("AdapterFactory", next(iter(entries)).load())
    try:
        return factory(provider.dialect)
    except ValueError as error:
        raise SettingsError([(f"providers.{name}.dialect", str(error))]) from None


def _origin(name: str, settings: ProviderSettings, adapter: Adapter) -> ProviderEndpoint:
    return ProviderEndpoint(
        provider=name,
        base_url=settings.base_url or adapter.base_url,
        key_header=adapter.key_header,
        key=settings.api_key,
        user_agent=f"runward/{version('runward')}",
        ca_file=settings.ca_file,
        connect_timeout=settings.connect_timeout,
        max_response=settings.max_response,
    )


def workflows(settings: Settings, providers: Mapping[str, Provider]) -> dict[str, Workflow]:
    """Build every workflow with its fallbacks.

    Raises SettingsError where a label or version is pinned that the provider does not know.
    """
    built: dict[str, Workflow] = {}

    def build(alias: str) -> Workflow:
        if alias not in built:  # the settings have refused circles
            configured = settings.workflows[alias]
            fallbacks = tuple(build(name) for name in configured.fallback)
            built[alias] = _workflow(alias, configured, providers[configured.provider], fallbacks)
        return built[alias]

    return {alias: build(alias) for alias in settings.workflows}


def _workflow(alias: str, settings: WorkflowSettings, provider: Provider, fallbacks: tuple[Workflow, ...]) -> Workflow:
    workflow = Workflow(
        alias=alias,
        provider=provider,
        name=settings.name,
        label=settings.label,
        version=settings.version,
        timeout=settings.timeout,
        max_timeout=settings.max_timeout,
        repeatable=settings.repeatable,
        fallbacks=fallbacks,
        api_names={api: names for api, names in settings.aliases if names is not None},
    )
    if workflow.pinned and not provider.adapter.supports_versions:
        raise SettingsError([(f"workflows.{alias}", f"provider {provider.name} has no labels or versions")])
    return workflow


def clients(settings: Settings) -> dict[str, Client]:
    """Build every client with its scope and limits."""
    return {
        name: Client(
            name,
            s.workflows,
            contract.ClientLimitsConfig(_rate(s.limits.rate), s.limits.burst, s.limits.concurrency, s.limits.daily),
        )
        for name, s in settings.clients.items()
    }


def passthrough_rules(settings: Settings) -> dict[str, dict[str, tuple[PassthroughRule, ...]]]:
    """Read what each client may be passed through to each provider."""
    return {
        name: {
            provider: tuple(PassthroughRule.parse(text) for text in rules) for provider, rules in s.passthrough.items()
        }
        for name, s in settings.clients.items()
    }


def key_ring(settings: Settings) -> KeyRing:
    """Build the look-up from a key to its client."""
    return KeyRing({name: [(key.hash, key.expires) for key in s.keys] for name, s in settings.clients.items()})


def limiter(
    settings: Settings, config: contract.LimitsConfig, *, clock: Clock, metrics: Metrics, log: FilteringBoundLogger
) -> Limiter:
    """Build what counts, unopened: the server of the store, where replicas share one, or this process's memory."""
    store_url = settings.store.url
    if not factory.is_redis_url(store_url):
        return Limiter(clock, config, on_decision=metrics.limit_decided)
    counters = RedisCounters(
        factory.create_redis_connection(store_url, settings.store.password, timeout=_LIMITER_TIMEOUT, connections=2),
        clock,
        log,
        on_shared_change=metrics.set_limits_shared,
        lease=settings.store.lease,
    )
    return Limiter(clock, config, counters=counters, on_decision=metrics.limit_decided)


def limits_config(settings: Settings, clients: Mapping[str, Client]) -> contract.LimitsConfig:
    """Read the limits of clients, workflows and providers, by name."""
    waits = {name: s.limits.max_wait for name, s in settings.providers.items()}
    return contract.LimitsConfig(
        {name: client.limits for name, client in clients.items()},
        {alias: _shared_limit(s.limits, waits[s.provider]) for alias, s in settings.workflows.items()},
        {name: _shared_limit(s.limits, waits[name]) for name, s in settings.providers.items()},
    )


def _shared_limit(settings: LimitSettings, max_wait: float) -> contract.SharedLimitsConfig:
    return contract.SharedLimitsConfig(_rate(settings.rate), settings.burst, settings.concurrency, max_wait)


def _rate(rate: RateSpec | None) -> contract.RateLimit | None:
    return contract.RateLimit(rate.count, rate.per) if rate else None


def retry_policy(settings: Settings) -> RetryPolicy:
    """Read how often calls are made again."""
    return RetryPolicy(settings.retries.attempts, settings.retries.backoff, settings.retries.backoff_max)


def polling_intervals(settings: Settings) -> tuple[float, float, float]:
    """Read what bounds a `Schedule`: first, longest and timeout, in seconds."""
    return settings.polling.first, settings.polling.max, settings.polling.timeout


def breaker_config(settings: Settings) -> BreakerConfig:
    """Read how much a provider may fail before it is left alone."""
    breaker = settings.breaker
    return BreakerConfig(breaker.failures, breaker.ratio, breaker.window, breaker.cooldown, breaker.cooldown_max)


def signing_keys(settings: Settings) -> list[bytes]:
    """Read what callbacks are signed with. SettingsError where a secret can not be one."""
    try:
        return [signing_key(secret.get_secret_value()) for secret in settings.callbacks.secrets]
    except ValueError as error:
        raise SettingsError([("callbacks.secrets", str(error))]) from None


def webhook_sender(egress_policy: EgressPolicy, clock: Clock) -> WebhookSender:
    """Build the door to receivers."""
    return WebhookSender(egress_policy, clock, user_agent=f"runward/{version('runward')}")
