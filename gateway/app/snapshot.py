"""What a configuration comes to: built and checked as a whole, before anything of it is put to use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gateway.app import factories
from gateway.auth.client import Client
from gateway.auth.keys import KeyRing
from gateway.clock import Clock
from gateway.limits.contract import LimitsConfig
from gateway.observability.metrics import Metrics
from gateway.outbound.provider.client import ProviderClient
from gateway.outbound.webhook.allowlist import CallbackAllowlist
from gateway.runs.catalog import Provider, Workflow
from gateway.runs.passthrough import AllowedPassthrough
from gateway.runs.resilience.circuit_breaker import BreakerConfig
from gateway.runs.resilience.retry import RetryPolicy
from gateway.settings import ProviderSettings, Settings

_CHANGEABLE_IN_PLACE = {"api_key", "connect_timeout", "limits"}
"""Settings of a provider with which its connections can be kept. What is trusted is read anew in any case."""


@dataclass(frozen=True, slots=True)
class ConfigSnapshot:
    """All that can change while the gateway runs.

    `doors` are what its providers use; `renewals` say what those of them become that the plan before used already.
    """

    settings: Settings
    upstreams: Mapping[str, ProviderClient]
    replacements: Mapping[str, ProviderClient]
    providers: Mapping[str, Provider]
    workflows: Mapping[str, Workflow]
    clients: Mapping[str, Client]
    keys: KeyRing
    limits: LimitsConfig
    retry_policy: RetryPolicy
    breaker_config: BreakerConfig
    signing_keys: Sequence[bytes]
    passthrough_rules: AllowedPassthrough
    callback_allowlist: CallbackAllowlist


def build_snapshot(
    settings: Settings, clock: Clock, metrics: Metrics, previous: ConfigSnapshot | None = None
) -> ConfigSnapshot:
    """Build everything anew, but keep the doors of the plan `before` that still lead to the same place.

    Nothing is put to use yet, so it may be done in a thread. Raises SettingsError where anything can not be built.
    """
    adapters = factories.adapters(settings)
    built = factories.upstreams(settings, adapters, clock, metrics)
    reused = _reusable_upstreams(previous, settings)
    upstreams = built | reused
    providers = {
        name: Provider(name, adapters[name], upstreams[name], provider.adapter)
        for name, provider in settings.providers.items()
    }
    clients = factories.clients(settings)
    return ConfigSnapshot(
        settings=settings,
        upstreams=upstreams,
        replacements={name: built[name] for name in reused},
        providers=providers,
        workflows=factories.workflows(settings, providers),
        clients=clients,
        keys=factories.key_ring(settings),
        limits=factories.limits_config(settings, clients),
        retry_policy=factories.retry_policy(settings),
        breaker_config=factories.breaker_config(settings),
        signing_keys=factories.signing_keys(settings),
        passthrough_rules=factories.passthrough_rules(settings),
        callback_allowlist=CallbackAllowlist(settings.callbacks.allow),
    )


def _reusable_upstreams(previous: ConfigSnapshot | None, settings: Settings) -> dict[str, ProviderClient]:
    if previous is None:
        return {}
    previous_connections = {
        name: _connection_settings(provider) for name, provider in previous.settings.providers.items()
    }
    return {
        n: previous.upstreams[n]
        for n, provider in settings.providers.items()
        if previous_connections.get(n) == _connection_settings(provider)
    }


def _connection_settings(provider: ProviderSettings) -> dict[str, object]:
    """What decides where its requests go, and what they are."""
    return provider.model_dump(exclude=_CHANGEABLE_IN_PLACE)
