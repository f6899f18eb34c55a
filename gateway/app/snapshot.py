"""Config snapshot: everything that a configuration yields, built and checked as a whole before any of it is used."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gateway.app import access_factories, factories
from gateway.app.listeners import TlsContexts
from gateway.app.tls import server_context
from gateway.app.tokens import login_config, token_config
from gateway.auth.certificates import CertificateIndex
from gateway.auth.client import Client
from gateway.auth.keys import KeyRing
from gateway.auth.oidc.login import LoginConfig
from gateway.auth.oidc.verifier import TokenConfig
from gateway.auth.ops_keys import OpsKeys
from gateway.clock import Clock
from gateway.limits.config import LimitsConfig
from gateway.observability.metrics import Metrics
from gateway.outbound.connect_tunnel import Proxy
from gateway.outbound.provider.client import ProviderClient
from gateway.outbound.webhook.allowlist import CallbackAllowlist
from gateway.runs.attention.items import AttentionConfig
from gateway.runs.budgets.budget import Budget
from gateway.runs.budgets.configured import configured_budgets
from gateway.runs.catalog import Provider, Workflow
from gateway.runs.configured_prices import price_table
from gateway.runs.passthrough import AllowedPassthrough
from gateway.runs.resilience.circuit_breaker import BreakerConfig
from gateway.runs.resilience.retry import RetryPolicy
from gateway.settings import ProviderSettings, Settings
from gateway.store.content_cipher import ContentCipher

_CHANGEABLE_IN_PLACE = {"api_key", "connect_timeout", "limits", "price", "budget"}
"""Provider settings that can change while its connections stay open. CA bundles are read again in any case."""


@dataclass(frozen=True, slots=True)
class ConfigSnapshot:
    """Everything that can change while the gateway runs.

    `upstreams` are the provider clients in use; `replacements` has the new settings of those that were taken over from
    the previous snapshot, as unused clients that only carry the settings.
    """

    settings: Settings
    upstreams: Mapping[str, ProviderClient]
    replacements: Mapping[str, ProviderClient]
    providers: Mapping[str, Provider]
    workflows: Mapping[str, Workflow]
    clients: Mapping[str, Client]
    keys: KeyRing
    certificates: CertificateIndex
    tokens: TokenConfig
    ops_keys: OpsKeys
    login: LoginConfig | None
    tls: TlsContexts
    limits: LimitsConfig
    retry_policy: RetryPolicy
    breaker_config: BreakerConfig
    signing_keys: Sequence[bytes]
    passthrough_rules: AllowedPassthrough
    callback_allowlist: CallbackAllowlist
    callback_proxy: Proxy | None
    content_cipher: ContentCipher
    attention: AttentionConfig
    budgets: Sequence[Budget]


def build_snapshot(
    settings: Settings, clock: Clock, metrics: Metrics, previous: ConfigSnapshot | None = None
) -> ConfigSnapshot:
    """Build a snapshot; provider clients of `previous` whose origin is unchanged are reused.

    Has no effect on the running gateway, so it may run in a thread. Raises SettingsError.
    """
    adapters = factories.adapters(settings)
    built = factories.upstreams(settings, adapters, clock, metrics)
    reused = _reusable_upstreams(previous, settings)
    upstreams = built | reused
    providers = {
        name: Provider(
            name,
            adapters[name],
            upstreams[name],
            provider.adapter,
            upstreams[name].address,
            price_table(provider.price),
        )
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
        keys=access_factories.key_ring(settings),
        certificates=access_factories.certificate_index(settings),
        tokens=token_config(settings),
        ops_keys=access_factories.ops_keys(settings),
        login=login_config(settings),
        tls=TlsContexts(
            server_context(settings.server.tls, "server.tls"),
            server_context(settings.server.resolved_ops_tls, "server.ops_tls"),
        ),
        limits=factories.limits_config(settings, clients),
        retry_policy=factories.retry_policy(settings),
        breaker_config=factories.breaker_config(settings),
        signing_keys=factories.signing_keys(settings),
        passthrough_rules=factories.passthrough_rules(settings, adapters),
        callback_allowlist=CallbackAllowlist(settings.callbacks.allow),
        callback_proxy=factories.callback_proxy(settings),
        content_cipher=factories.content_cipher(settings, clock),
        attention=factories.attention_config(settings),
        budgets=configured_budgets(settings),
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
    """Settings that determine the destination and the form of requests."""
    return provider.model_dump(exclude=_CHANGEABLE_IN_PLACE)
