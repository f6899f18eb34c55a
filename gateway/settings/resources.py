"""The sections about who runs what: providers, workflows, clients, and their limits."""

from __future__ import annotations

from typing import Any, Self

from pydantic import Field, FilePath, JsonValue, model_validator

from gateway.settings.addresses import BaseUrl, NetworkSetting, is_plaintext_remote
from gateway.settings.errors import raise_validation_error
from gateway.settings.field_types import (
    Alias,
    CertificateName,
    Count,
    Name,
    PassthroughRuleText,
    ProviderWorkflowName,
    Scope,
    Version,
)
from gateway.settings.secret import Secret
from gateway.settings.sections import KeySettings, Section
from gateway.settings.units import Duration, DurationOrZero, RateSetting, Size


class LimitSettings(Section):
    """How much may go on; what is not set is not limited."""

    rate: RateSetting | None = None
    """How many runs in a time: 50/s, 100/m, 10/h."""
    burst: Count | None = None
    """How many of them may come at once; without it the rate decides."""
    concurrency: Count | None = None
    """How many may be in flight together."""

    @model_validator(mode="after")
    def _require_rate_for_burst(self) -> Self:
        if self.burst is not None and self.rate is None:
            raise_validation_error([(("burst",), "limits nothing without a rate")])
        return self


class ProviderLimitSettings(LimitSettings):
    """What protects the account at a provider; requests wait their turn."""

    max_wait: DurationOrZero = 1.0
    """How long a request may wait for its turn before it is a 503."""


class ClientLimitSettings(LimitSettings):
    """What a client may use up; more is a 429."""

    daily: Count | None = None
    """How many runs a day."""


class ProviderSettings(Section):
    """An account at a provider."""

    adapter: Name = ""
    """Which adapter speaks to it; its own name by default."""
    base_url: BaseUrl | None = None
    """Where it is; the adapter knows the public address."""
    api_key: Secret
    """The provider's key: {env: NAME} or {file: PATH}."""
    dialect: Name | None = None
    """Which of its interfaces to speak, where the adapter knows several."""
    options: dict[str, JsonValue] = Field(default={})
    """Settings of the adapter's own, checked by the adapter. No secrets: the key is `api_key`."""
    allow_http: bool = False
    """Whether base_url may be plain http to another machine, so that the key can be read on the way."""
    ca_file: FilePath | None = None
    """Certificates to trust instead of the system's, in PEM."""
    connect_timeout: Duration = 5.0
    """How long a connection with its TLS handshake may take."""
    max_response: Size = 10_000_000
    """The largest answer that is read; more is a 502."""
    limits: ProviderLimitSettings = ProviderLimitSettings()
    """What the account can take."""

    @model_validator(mode="after")
    def _require_https(self) -> Self:
        if self.base_url and is_plaintext_remote(self.base_url) and not self.allow_http:
            raise_validation_error(
                [(("base_url",), "must be https, or allow_http: true must say that the key may be read on the way")]
            )
        return self


def _default_max_timeout(fields: dict[str, Any]) -> float:
    return float(fields["timeout"])


class AliasSettings(Section):
    """What a workflow answers to where a client speaks a provider's own API, beside its alias."""

    promptlayer: tuple[Alias, ...] | None = None
    """Names, or ids, as PromptLayer's API has them in its paths; what the provider calls it by default."""
    prompt_studio: tuple[Alias, ...] | None = None
    """Deployment ids, as Prompt Studio's API has them in its paths; what the provider calls it by default."""


class WorkflowSettings(Section):
    """A workflow, under the alias that clients know."""

    provider: Name
    """Which of the providers runs it."""
    name: ProviderWorkflowName = ""
    """What the provider calls it; the alias by default."""
    label: ProviderWorkflowName | None = None
    """The release label to run, where the provider has them; excludes version."""
    version: Version | None = None
    """Version to run, where the provider has versions: a number or a text, as the provider has them. Excludes label."""
    timeout: Duration = 60.0
    """How long a run may take in all, where the client does not say."""
    max_timeout: Duration = Field(default_factory=_default_max_timeout)
    """How long a client may ask for; timeout by default."""
    fallback: tuple[Name, ...] = Field(default=(), max_length=20)
    """Aliases to try in turn while nothing was run."""
    repeatable: bool = False
    """Whether a run that may have been started may be started again. It is paid for twice then."""
    aliases: AliasSettings = AliasSettings()
    """What else it answers to in the providers' own APIs."""
    limits: LimitSettings = LimitSettings()
    """What the workflow can take."""

    @model_validator(mode="after")
    def _check_release_and_timeouts(self) -> Self:
        if self.label is not None and self.version is not None:
            raise_validation_error([(("version",), "label and version exclude each other")])
        if self.max_timeout < self.timeout:
            raise_validation_error([(("max_timeout",), "must be at least timeout")])
        return self


class ClientSettings(Section):
    """An app that may use the gateway."""

    keys: tuple[KeySettings, ...] = ()
    """Its keys; two while one is replaced by the other."""
    certificates: tuple[CertificateName, ...] = ()
    """Subjects or SANs of client certificates that stand for a key; needs server.tls.client_ca."""
    addresses: tuple[NetworkSetting, ...] = ()
    """IP allow-list: networks that it may connect from (behind server.trusted_proxies); every address by default."""
    workflows: tuple[Scope, ...] = Field(min_length=1)
    """What it may run: patterns over aliases, or provider/pattern over a provider's own names."""
    limits: ClientLimitSettings = ClientLimitSettings()
    """What it may use up."""
    passthrough: dict[Name, tuple[PassthroughRuleText, ...]] = Field(default={})
    """By provider, which of its other routes it may use with the provider's key; none by default."""
