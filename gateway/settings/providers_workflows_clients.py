"""Sections of named resources: providers, workflows, clients and teams, and their limits."""

from __future__ import annotations

from typing import Any, Self

from pydantic import Field, FilePath, JsonValue, model_validator

from gateway.settings.budget_section import OwnBudgetSettings
from gateway.settings.content_section import WorkflowContentSettings
from gateway.settings.errors import raise_validation_error
from gateway.settings.issuers_section import TokensField
from gateway.settings.price_section import Price
from gateway.settings.sections import KeySettings, Section
from gateway.settings.types.addresses import BaseUrl, NetworkSetting, ProxyUrl, is_plaintext_remote
from gateway.settings.types.fields import (
    Alias,
    CertificateName,
    Count,
    Name,
    PassthroughRules,
    ProviderWorkflowName,
    Scope,
    Version,
)
from gateway.settings.types.secret_reference import ProxyCredentials, Secret
from gateway.settings.types.units import Duration, DurationOrZero, RateSetting, Size


class LimitSettings(Section):
    """Limits; a missing value means unlimited."""

    rate: RateSetting | None = None
    """Rate limit of starts: 50/s, 100/m, 10/h."""
    burst: Count | None = None
    """Starts at once; derived from the rate by default."""
    concurrency: Count | None = None
    """Concurrency limit: runs in flight."""

    @model_validator(mode="after")
    def _require_rate_for_burst(self) -> Self:
        if self.burst is not None and self.rate is None:
            raise_validation_error([(("burst",), "limits nothing without a rate")])
        return self


class ProviderLimitSettings(LimitSettings):
    """Limits of a provider account; requests above them wait in the provider's queue."""

    max_wait: DurationOrZero = 1.0
    """Longest wait in the queue; then 503."""


class ClientLimitSettings(LimitSettings):
    """Limits of a client or a team; requests above them are answered with 429."""

    daily: Count | None = None
    """Daily quota of runs."""


class ProviderSettings(Section):
    """Account at a provider."""

    adapter: Name = ""
    """Adapter; the one with the provider's name by default."""
    base_url: BaseUrl | None = None
    """Base URL of the API; defined by the adapter by default."""
    api_key: Secret
    """API key: {env: NAME} or {file: PATH}."""
    dialect: Name | None = None
    """Interface of the provider, if the adapter supports several."""
    options: dict[str, JsonValue] = Field(default={})
    """Settings of the adapter, validated by it. No secrets: the key is `api_key`."""
    allow_http: bool = False
    """Allow plain http to another machine; the key can then be read on the network."""
    ca_file: FilePath | None = None
    """Trusted authorities in PEM; those of the system by default."""
    proxy: ProxyUrl | None = None
    """HTTP proxy for requests to the provider (CONNECT): http://host:port; none by default."""
    proxy_auth: ProxyCredentials | None = None
    """User and password of the proxy, as user:password; none by default."""
    connect_timeout: Duration = 5.0
    """Time to connect, TLS handshake included."""
    max_response: Size = 10_000_000
    """Largest response that is read; larger ones are answered with 502."""
    price: Price | None = None
    """Price of a start of its workflows that have no price of their own: an amount, or {default, labels, versions}."""
    budget: OwnBudgetSettings | None = None
    """Budget of all starts at this provider: {amount, per, warn_at, hard}; none by default."""
    limits: ProviderLimitSettings = ProviderLimitSettings()
    """Limits of the account."""

    @model_validator(mode="after")
    def _require_https(self) -> Self:
        if self.base_url and is_plaintext_remote(self.base_url) and not self.allow_http:
            raise_validation_error(
                [
                    (
                        ("base_url",),
                        "must be https, unless allow_http: true accepts that the key can be read on the network",
                    )
                ]
            )
        return self

    @model_validator(mode="after")
    def _require_proxy(self) -> Self:
        if self.proxy_auth is not None and self.proxy is None:
            raise_validation_error([(("proxy_auth",), "needs proxy")])
        return self


def _default_max_timeout(fields: dict[str, Any]) -> float:
    return float(fields["timeout"])


class AliasSettings(Section):
    """Names of a workflow in the providers' own APIs, in addition to its alias."""

    promptlayer: tuple[Alias, ...] | None = None
    """Names or ids in paths of PromptLayer's API; the name at the provider by default."""
    prompt_studio: tuple[Alias, ...] | None = None
    """Deployment ids in paths of Prompt Studio's API; the name at the provider by default."""


class WorkflowSettings(Section):
    """Workflow, keyed by the alias that clients use."""

    provider: Name
    """Provider that runs the workflow."""
    name: ProviderWorkflowName = ""
    """Name at the provider; the alias by default."""
    label: ProviderWorkflowName | None = None
    """Release label, if the provider has releases; excludes version."""
    version: Version | None = None
    """Version, if the provider has versions: a number or a text, as the provider has them. Excludes label."""
    timeout: Duration = 60.0
    """Deadline of a run, if the client sets none."""
    max_timeout: Duration = Field(default_factory=_default_max_timeout)
    """Longest timeout that a client may set; timeout by default."""
    fallback: tuple[Name, ...] = Field(default=(), max_length=20)
    """Aliases of workflows to try in order, as long as nothing was started."""
    repeatable: bool = False
    """Allow a run that may have been started to be started again; it is then paid for twice."""
    aliases: AliasSettings = AliasSettings()
    """Names in the providers' own APIs."""
    price: Price | None = None
    """Price of a start in the unit of the budgets: an amount, or {default, labels, versions}; 0: it is free. That of
    its provider by default."""
    budget: OwnBudgetSettings | None = None
    """Budget of all starts on this workflow: {amount, per, warn_at, hard}; none by default."""
    content: WorkflowContentSettings = WorkflowContentSettings()
    """Input and output of its recorded runs, where that differs from content."""
    limits: LimitSettings = LimitSettings()
    """Limits of the workflow."""

    @model_validator(mode="after")
    def _check_release_and_timeouts(self) -> Self:
        if self.label is not None and self.version is not None:
            raise_validation_error([(("version",), "label and version exclude each other")])
        if self.max_timeout < self.timeout:
            raise_validation_error([(("max_timeout",), "must be at least timeout")])
        return self


class ClientSettings(Section):
    """Client application."""

    keys: tuple[KeySettings, ...] = ()
    """Gateway keys; two during a rotation."""
    certificates: tuple[CertificateName, ...] = ()
    """Subjects or SANs of client certificates that stand for a key; require server.tls.client_ca."""
    tokens: TokensField = ()
    """Signed tokens that stand for a key, such as those of a Kubernetes service account or a GitHub workflow."""
    addresses: tuple[NetworkSetting, ...] = ()
    """IP allow-list: networks that it may connect from (behind server.trusted_proxies); every address by default."""
    workflows: tuple[Scope, ...] = Field(min_length=1)
    """Scope: patterns over aliases, or provider/pattern over names at a provider."""
    limits: ClientLimitSettings = ClientLimitSettings()
    """Limits of the client."""
    team: Name | None = None
    """Team whose limits and budget hold too; none by default."""
    budget: OwnBudgetSettings | None = None
    """Budget of the client's runs: {amount, per, warn_at, hard}; none by default."""
    passthrough: dict[Name, PassthroughRules] = Field(default={})
    """Other endpoints by provider that are called with the provider's key; `sdk`: those of its official SDKs."""


class TeamSettings(Section):
    """Group of clients."""

    limits: ClientLimitSettings = ClientLimitSettings()
    """Limits of all its clients together, in addition to those of each."""
    budget: OwnBudgetSettings | None = None
    """Budget of the runs of all its clients: {amount, per, warn_at, hard}; none by default."""
