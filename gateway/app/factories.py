"""Factories: objects of the domain from the settings."""

from __future__ import annotations

import ssl
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.metadata import entry_points, version
from typing import cast

from gateway.auth.client import Client
from gateway.clock import Clock
from gateway.errors import CallbackUrlRefused
from gateway.limits import config
from gateway.limits.limiter import Limiter
from gateway.observability.logger_protocol import Logger
from gateway.observability.metrics import Metrics
from gateway.outbound.connect_tunnel import Proxy
from gateway.outbound.provider.client import (
    ProviderClient,
    TlsContextFactory,
    create_tls_context,
)
from gateway.outbound.provider.endpoint import ProviderEndpoint
from gateway.outbound.webhook.egress_policy import EgressPolicy
from gateway.outbound.webhook.sender import WebhookSender
from gateway.passthrough_rules import PassthroughRule
from gateway.redaction import parse_redaction
from gateway.runs.attention.items import AttentionConfig
from gateway.runs.budgets.configured import configured_budgets
from gateway.runs.callbacks.webhook_message import signing_key
from gateway.runs.catalog import Provider, Workflow
from gateway.runs.configured_prices import price_table
from gateway.runs.history import HistoryConfig
from gateway.runs.recorded_content import ContentConfig, ContentRule
from gateway.runs.resilience.circuit_breaker import BreakerConfig
from gateway.runs.resilience.retry import RetryPolicy
from gateway.settings import ContentSettings, KeySettings, Settings, SettingsError
from gateway.settings.providers_workflows_clients import (
    ClientLimitSettings,
    LimitSettings,
    ProviderSettings,
    WorkflowSettings,
)
from gateway.settings.types.fields import SDK_CALLS
from gateway.settings.types.secret_reference import decode_content_key
from gateway.settings.types.units import RateSpec
from gateway.store import factory
from gateway.store.content_cipher import ContentCipher
from providers.contract import Adapter
from providers.declarations import (
    AdapterFactory,
    InvalidOptions,
    UnknownDialect,
    accepts_release,
    build_adapter,
    request_headers_of,
    sdk_calls_of,
    starts_of,
)

_LIMITER_TIMEOUT = 0.5  # seconds; then limits are counted in this process
_TRACING_PACKAGES = ("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http")
ADAPTER_ENTRY_POINTS = "runward.providers"
"""Entry point group in which installed packages register adapters."""


def upstreams(
    settings: Settings, adapters: Mapping[str, Adapter], clock: Clock, metrics: Metrics
) -> dict[str, ProviderClient]:
    """Build a client for every provider, unconnected. Raises SettingsError for an unusable CA file."""
    tls_context = cache(create_tls_context)  # of this configuration alone: the next one reads the files again
    return {
        name: _upstream(_origin(name, provider, adapters[name]), clock, metrics, tls_context)
        for name, provider in settings.providers.items()
    }


def _upstream(
    origin: ProviderEndpoint, clock: Clock, metrics: Metrics, tls_context: TlsContextFactory
) -> ProviderClient:
    try:
        return ProviderClient(origin, clock=clock, metrics=metrics, tls_context=tls_context)
    except ssl.SSLError:
        raise SettingsError([(f"providers.{origin.provider}.ca_file", "holds no certificate")]) from None


def adapters(settings: Settings) -> dict[str, Adapter]:
    """Build every provider's adapter.

    Raises SettingsError if no installed package registers it, or if it rejects the dialect or the options.
    """
    return {name: adapter(name, settings) for name in settings.providers}


def adapter(name: str, settings: Settings) -> Adapter:
    """Build one provider's adapter. Raises SettingsError as `adapters` does."""
    provider = settings.providers[name]
    entries = entry_points(group=ADAPTER_ENTRY_POINTS, name=provider.adapter)
    if not entries:
        known = ", ".join(sorted(entry_points(group=ADAPTER_ENTRY_POINTS).names))
        raise SettingsError([(f"providers.{name}.adapter", f"no such adapter is installed; there are: {known}")])
    factory = cast("AdapterFactory", next(iter(entries)).load())
    try:
        built = build_adapter(factory, provider.dialect, provider.options)
    except UnknownDialect as error:
        raise SettingsError([(f"providers.{name}.dialect", str(error))]) from None
    except InvalidOptions as error:
        place = f"providers.{name}.options"
        raise SettingsError([(f"{place}.{key}".rstrip("."), text) for key, text in error.errors]) from None
    try:
        starts_of(built), request_headers_of(built)
    except ValueError as error:
        raise SettingsError([(f"providers.{name}.adapter", str(error))]) from None
    if provider.base_url is None and built.base_url is None:
        raise SettingsError([(f"providers.{name}.base_url", "is required: the adapter has no public address")])
    return built


def _origin(name: str, settings: ProviderSettings, adapter: Adapter) -> ProviderEndpoint:
    return ProviderEndpoint(
        provider=name,
        base_url=settings.base_url or adapter.base_url or "",
        key_header=adapter.key_header,
        request_headers=request_headers_of(adapter),
        key=settings.api_key,
        user_agent=f"runward/{version('runward')}",
        ca_file=settings.ca_file,
        connect_timeout=settings.connect_timeout,
        max_response=settings.max_response,
        proxy=Proxy.from_settings(settings.proxy, settings.proxy_auth),
    )


def workflows(settings: Settings, providers: Mapping[str, Provider]) -> dict[str, Workflow]:
    """Build every workflow with its fallbacks.

    Raises SettingsError if a label or version is pinned and the provider has none.
    """
    built: dict[str, Workflow] = {}

    def build(alias: str) -> Workflow:
        if alias not in built:  # the settings exclude cycles
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
        prices=price_table(settings.price) or provider.prices,
    )
    if workflow.pinned and not provider.adapter.supports_versions:
        raise SettingsError([(f"workflows.{alias}", f"provider {provider.name} has no labels or versions")])
    if not accepts_release(provider.adapter, workflow.label, workflow.version):
        kind = "labels" if workflow.label else "numbers" if isinstance(workflow.version, int) else "texts"
        field = "label" if workflow.label else "version"
        raise SettingsError(
            [(f"workflows.{alias}.{field}", f"provider {provider.name} has no versions that are {kind}")]
        )
    return workflow


def clients(settings: Settings) -> dict[str, Client]:
    """Build every client with its scope, limits and IP allow-list."""
    return {
        name: Client(
            name,
            s.workflows,
            _caller_limits(s.limits),
            s.addresses,
            s.team,
        )
        for name, s in settings.clients.items()
    }


def passthrough_rules(
    settings: Settings, adapters: Mapping[str, Adapter]
) -> dict[str, dict[str, tuple[PassthroughRule, ...]]]:
    """Build each client's passthrough rules by provider. SettingsError where one could start runs."""
    rules: dict[str, dict[str, tuple[PassthroughRule, ...]]] = {name: {} for name in settings.clients}
    errors = []
    for client, client_settings in settings.clients.items():
        for provider, texts in client_settings.passthrough.items():
            listed: list[PassthroughRule] = []
            for index, text in enumerate(texts):
                parsed, error = _parse_passthrough(text, adapters[provider])
                listed += parsed
                if error is not None:
                    errors.append((f"clients.{client}.passthrough.{provider}[{index}]", error))
            rules[client][provider] = tuple(listed)
    if errors:
        raise SettingsError(errors)
    return rules


def _parse_passthrough(text: str, adapter: Adapter) -> tuple[list[PassthroughRule], str | None]:
    """Return the rules that one entry stands for, and the error in it, if there is one."""
    texts = sdk_calls_of(adapter) if text == SDK_CALLS else (text,)
    rules = [PassthroughRule.parse(each) for each in texts]
    if not rules:
        return [], "the provider's adapter does not declare the calls of an official SDK: list them one by one"
    return rules, next((error for rule in rules if (error := _passthrough_error(rule, adapter))), None)


def _passthrough_error(rule: PassthroughRule, adapter: Adapter) -> str | None:
    starts = starts_of(adapter)
    if starts is None:
        return "the provider's adapter does not declare which requests start runs, so nothing can be passed through"
    return (
        "would start runs that are not counted: runs have routes of their own" if rule.can_start_run(starts) else None
    )


def limiter(settings: Settings, config: config.LimitsConfig, *, clock: Clock, metrics: Metrics, log: Logger) -> Limiter:
    """Build the rate limiter, unopened: counters in the store's Redis server if there is one, else in memory."""
    store_url = settings.store.url
    if not factory.is_redis_url(store_url):
        return Limiter(clock, config, on_decision=metrics.limit_decided)
    from gateway.limits.redis.counters import RedisCounters

    counters = RedisCounters(
        factory.create_redis_connection(
            store_url, factory.RedisAccess.from_settings(settings.store), timeout=_LIMITER_TIMEOUT, connections=2
        ),
        clock,
        log,
        on_shared_change=metrics.set_limits_shared,
        lease=settings.store.lease,
    )
    return Limiter(clock, config, counters=counters, on_decision=metrics.limit_decided)


def limits_config(settings: Settings, clients: Mapping[str, Client]) -> config.LimitsConfig:
    """Read the limits of clients, teams, workflows and providers, by name."""
    waits = {name: s.limits.max_wait for name, s in settings.providers.items()}
    return config.LimitsConfig(
        {name: client.limits for name, client in clients.items()},
        {alias: _shared_limit(s.limits, waits[s.provider]) for alias, s in settings.workflows.items()},
        {name: _shared_limit(s.limits, waits[name]) for name, s in settings.providers.items()},
        {name: _caller_limits(team.limits) for name, team in settings.teams.items()},
        {name: client.team for name, client in clients.items() if client.team is not None},
    )


def _caller_limits(settings: ClientLimitSettings) -> config.ClientLimitsConfig:
    return config.ClientLimitsConfig(_rate(settings.rate), settings.burst, settings.concurrency, settings.daily)


def _shared_limit(settings: LimitSettings, max_wait: float) -> config.ResourceLimitsConfig:
    return config.ResourceLimitsConfig(_rate(settings.rate), settings.burst, settings.concurrency, max_wait)


def _rate(rate: RateSpec | None) -> config.RateLimit | None:
    return config.RateLimit(rate.count, rate.per) if rate else None


def retry_policy(settings: Settings) -> RetryPolicy:
    """Retry policy of provider calls."""
    return RetryPolicy(settings.retries.attempts, settings.retries.backoff, settings.retries.backoff_max)


def history_config(settings: Settings) -> HistoryConfig:
    """Return the configuration of the history. In Redis a record takes 1.2 to 1.7 kB of memory."""
    history, workflows = settings.history, settings.workflows
    most = history.most or (100_000 if settings.store.url.startswith("redis") else 1_000_000)
    rules = {alias: _content_rule(workflow.content.resolve(settings.content)) for alias, workflow in workflows.items()}
    content = ContentConfig(_content_rule(settings.content), rules)
    return HistoryConfig(history.keep, history.retention, most, content, settings.usage.retention)


def _content_rule(settings: ContentSettings) -> ContentRule:
    redaction = parse_redaction(settings.redact) if settings.redact else None
    return ContentRule(settings.keep, settings.sample, settings.retention, settings.max, redaction)


def polling_intervals(settings: Settings) -> tuple[float, float, float, float]:
    """Poll schedule in seconds: first interval, longest interval, timeout of one poll, time after the deadline."""
    polling = settings.polling
    return polling.first, polling.max, polling.timeout, polling.follow_for


def breaker_config(settings: Settings) -> BreakerConfig:
    """Circuit breaker configuration."""
    breaker = settings.breaker
    return BreakerConfig(breaker.failures, breaker.ratio, breaker.window, breaker.cooldown, breaker.cooldown_max)


def signing_keys(settings: Settings) -> list[bytes]:
    """Keys that sign callbacks, newest first. Raises SettingsError if a secret is malformed."""
    try:
        return [signing_key(secret.get_secret_value()) for secret in settings.callbacks.secrets]
    except ValueError as error:
        raise SettingsError([("callbacks.secrets", str(error))]) from None


def content_cipher(settings: Settings, clock: Clock) -> ContentCipher:
    """Encryption of stored payloads. Raises SettingsError if its library is missing."""
    keys = [decode_content_key(key) for key in settings.content.encrypt.all_keys]
    try:
        return ContentCipher(keys, clock.token)
    except ModuleNotFoundError as missing:
        if missing.name is None or missing.name.partition(".")[0] != "cryptography":
            raise
        text = "needs the cryptography library: install runward[encryption]"
        raise SettingsError([("content.encrypt", text)]) from None


def attention_config(settings: Settings) -> AttentionConfig:
    """Return the configuration of the attention list. Raises SettingsError if the egress policy refuses the webhook."""
    webhook = settings.attention.webhook
    if webhook is not None:
        try:
            EgressPolicy(settings.callbacks.allow).check(webhook)
        except CallbackUrlRefused:
            text = "must be https to a public host, on port 443 or 8443, or one of callbacks.allow"
            raise SettingsError([("attention.webhook", text)]) from None
    keys = {f"clients.{name}": client.keys for name, client in settings.clients.items()}
    keys["server.ops_keys"] = settings.server.ops_keys
    return AttentionConfig(
        {alias: workflow.max_timeout for alias, workflow in settings.workflows.items()},
        {owner: last for owner, each in keys.items() if (last := _last_expiry(each)) is not None},
        webhook,
        signing_keys(settings),
        configured_budgets(settings),
    )


def _last_expiry(keys: Sequence[KeySettings]) -> float | None:
    """Return when the last of these keys expires; None if there is none, or one that never expires."""
    expiries = [None if key.expires is None else key.expires.timestamp() for key in keys]
    known = [each for each in expiries if each is not None]
    return max(known) if known and len(known) == len(expiries) else None


def callback_proxy(settings: Settings) -> Proxy | None:
    """Proxy of deliveries; None if they are direct."""
    return Proxy.from_settings(settings.callbacks.proxy, settings.callbacks.proxy_auth)


def webhook_sender(egress_policy: EgressPolicy, clock: Clock, proxy: Proxy | None) -> WebhookSender:
    """Client for callback receivers."""
    return WebhookSender(egress_policy, clock, user_agent=f"runward/{version('runward')}", proxy=proxy)
