"""Turns the settings into the objects that the rooms work with."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from importlib.metadata import entry_points, version
from typing import cast

from structlog.typing import FilteringBoundLogger

from gateway.access import limits
from gateway.access.clients import Client
from gateway.access.keys import KeyRing
from gateway.access.memory import MemoryLimits
from gateway.access.redis_limits import RedisLimits
from gateway.clock import Clock
from gateway.metrics import Metrics
from gateway.passages import Passage
from gateway.runs.breaker import Tolerance
from gateway.runs.catalog import Provider, Workflow
from gateway.runs.retry import Policy
from gateway.runs.webhook import signing_key
from gateway.settings import Settings, SettingsError
from gateway.settings.routes import Limits, ProviderSettings, WorkflowSettings
from gateway.settings.units import Rate
from gateway.store import by_url
from gateway.upstream.client import HttpUpstream, Origin
from gateway.upstream.courier import Courier
from gateway.upstream.egress import Egress
from providers.contract import Adapter, AdapterFactory

_LIMITS_PATIENCE = 0.5  # seconds, then limits are counted here
ADAPTERS = "runward.providers"
"""The group of entry points in which installed packages announce adapters."""


def upstreams(
    settings: Settings, adapters: Mapping[str, Adapter], clock: Clock, metrics: Metrics
) -> dict[str, HttpUpstream]:
    """Build the door to every provider; it opens nothing before it is used. SettingsError where one trusts nobody."""
    return {
        name: _upstream(_origin(name, provider, adapters[name]), clock, metrics)
        for name, provider in settings.providers.items()
    }


def _upstream(origin: Origin, clock: Clock, metrics: Metrics) -> HttpUpstream:
    try:
        return HttpUpstream(origin, clock=clock, metrics=metrics)
    except ssl.SSLError:
        raise SettingsError([(f"providers.{origin.provider}.ca_file", "holds no certificate")]) from None


def adapters(settings: Settings) -> dict[str, Adapter]:
    """Find and build every provider's adapter.

    Raises SettingsError where no installed package has it, or where it does not know the dialect.
    """
    return {name: adapter(name, settings) for name in settings.providers}


def adapter(name: str, settings: Settings) -> Adapter:
    """Find and build one provider's adapter, likewise."""
    wanted = settings.providers[name]
    found = entry_points(group=ADAPTERS, name=wanted.adapter)
    if not found:
        known = ", ".join(sorted(entry_points(group=ADAPTERS).names))
        raise SettingsError([(f"providers.{name}.adapter", f"no such adapter is installed; there are: {known}")])
    factory = cast("AdapterFactory", next(iter(found)).load())
    try:
        return factory(wanted.dialect)
    except ValueError as error:
        raise SettingsError([(f"providers.{name}.dialect", str(error))]) from None


def _origin(name: str, settings: ProviderSettings, adapter: Adapter) -> Origin:
    return Origin(
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
        names={face: names for face, names in settings.aliases if names is not None},
    )
    if workflow.pinned and not provider.adapter.versions:
        raise SettingsError([(f"workflows.{alias}", f"provider {provider.name} has no labels or versions")])
    return workflow


def clients(settings: Settings) -> dict[str, Client]:
    """Build every client with its scope and limits."""
    return {
        name: Client(
            name,
            s.workflows,
            limits.ClientLimits(_rate(s.limits.rate), s.limits.burst, s.limits.concurrency, s.limits.daily),
        )
        for name, s in settings.clients.items()
    }


def passages(settings: Settings) -> dict[str, dict[str, tuple[Passage, ...]]]:
    """Read what each client may be passed through to each provider."""
    return {
        name: {provider: tuple(Passage.read(text) for text in listed) for provider, listed in s.passthrough.items()}
        for name, s in settings.clients.items()
    }


def key_ring(settings: Settings) -> KeyRing:
    """Build the look-up from a key to its client."""
    return KeyRing({name: [(key.hash, key.expires) for key in s.keys] for name, s in settings.clients.items()})


def limiter(
    settings: Settings,
    *,
    clients: Mapping[str, limits.ClientLimits],
    workflows: Mapping[str, limits.SharedLimits],
    providers: Mapping[str, limits.SharedLimits],
    clock: Clock,
    metrics: Metrics,
    log: FilteringBoundLogger,
) -> limits.Limits:
    """Build what counts, unopened: the server of the store, where replicas share one, or this process's memory."""
    url = settings.store.url
    if not by_url.is_server(url):
        return MemoryLimits(clock, clients=clients, workflows=workflows, providers=providers, decided=metrics.decided)
    return RedisLimits(
        by_url.link(url, settings.store.password, patience=_LIMITS_PATIENCE, connections=2),
        clock,
        log,
        clients=clients,
        workflows=workflows,
        providers=providers,
        decided=metrics.decided,
        told=metrics.limits_shared,
        lease=settings.store.lease,
    )


def shared_limits(settings: Settings) -> tuple[dict[str, limits.SharedLimits], dict[str, limits.SharedLimits]]:
    """Read the limits of workflows and of providers, by name."""
    waits = {name: s.limits.max_wait for name, s in settings.providers.items()}
    of_workflows = {alias: _shared(s.limits, waits[s.provider]) for alias, s in settings.workflows.items()}
    return of_workflows, {name: _shared(s.limits, waits[name]) for name, s in settings.providers.items()}


def _shared(configured: Limits, max_wait: float) -> limits.SharedLimits:
    return limits.SharedLimits(_rate(configured.rate), configured.burst, configured.concurrency, max_wait)


def _rate(rate: Rate | None) -> limits.Rate | None:
    return limits.Rate(rate.count, rate.per) if rate else None


def policy(settings: Settings) -> Policy:
    """Read how often calls are made again."""
    return Policy(settings.retries.attempts, settings.retries.backoff, settings.retries.backoff_max)


def polling(settings: Settings) -> tuple[float, float, float]:
    """Read what bounds a `Schedule`: first, longest and timeout, in seconds."""
    return settings.polling.first, settings.polling.max, settings.polling.timeout


def tolerance(settings: Settings) -> Tolerance:
    """Read how much a provider may fail before it is left alone."""
    b = settings.breaker
    return Tolerance(b.failures, b.ratio, b.window, b.cooldown, b.cooldown_max)


def signing_keys(settings: Settings) -> list[bytes]:
    """Read what callbacks are signed with. SettingsError where a secret can not be one."""
    try:
        return [signing_key(secret.get_secret_value()) for secret in settings.callbacks.secrets]
    except ValueError as error:
        raise SettingsError([("callbacks.secrets", str(error))]) from None


def courier(egress: Egress, clock: Clock) -> Courier:
    """Build the door to receivers."""
    return Courier(egress, clock, user_agent=f"runward/{version('runward')}")
