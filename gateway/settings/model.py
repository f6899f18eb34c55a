"""Settings model: the whole configuration, validated."""

from __future__ import annotations

from itertools import chain
from typing import Self

from pydantic import Field, field_validator, model_validator

from gateway.settings.budget_coverage import all_budgets, unknown_conditions, unpriced_coverage
from gateway.settings.budget_section import BudgetSettings
from gateway.settings.consistency import (
    cyclic_fallbacks,
    duplicate_aliases,
    duplicate_certificates,
    duplicate_keys,
    inconsistent_login,
    inconsistent_tokens,
    unknown_fallbacks,
    unknown_passthrough_providers,
    unknown_providers,
    unknown_teams,
    unsigned_webhook,
    unused_settings,
)
from gateway.settings.console_section import ConsoleSettings
from gateway.settings.content_section import ContentSettings
from gateway.settings.errors import format_location, raise_validation_error
from gateway.settings.issuers_section import IssuerSettings
from gateway.settings.providers_workflows_clients import (
    ClientSettings,
    ProviderSettings,
    TeamSettings,
    WorkflowSettings,
)
from gateway.settings.sections import (
    AttentionSettings,
    AuditSettings,
    BreakerSettings,
    CallbackSettings,
    HistorySettings,
    LogsSettings,
    PollingSettings,
    RetrySettings,
    Section,
    ServerSettings,
    StoreSettings,
)
from gateway.settings.tracing_section import TracingSettings
from gateway.settings.types.addresses import is_plaintext_remote
from gateway.settings.types.fields import Name
from gateway.settings.usage_section import UsageSettings

_PLAIN_HTTP_WARNING = "server.public_url: is plain http, so results of providers can be read on the network"
_KEEPS_NOTHING = (None, "none")


class Settings(Section):
    """Configuration of Runward. Built by `load`; the constructor reads neither files nor the environment.

    Durations are in seconds, sizes in bytes, secrets are `SecretStr`. All defaults are filled in.
    """

    server: ServerSettings = ServerSettings()
    """Ports, and limits before authentication."""
    logs: LogsSettings = LogsSettings()
    """Logging."""
    tracing: TracingSettings = TracingSettings()
    """Tracing with OpenTelemetry."""
    store: StoreSettings = StoreSettings()
    """Store of durable runs."""
    history: HistorySettings = HistorySettings()
    """Records of runs."""
    audit: AuditSettings = AuditSettings()
    """Audit records."""
    content: ContentSettings = ContentSettings()
    """Inputs and outputs in the store."""
    usage: UsageSettings = UsageSettings()
    """Sums of runs and of what they cost."""
    providers: dict[Name, ProviderSettings] = Field(default={})
    """Accounts at providers, by name."""
    workflows: dict[Name, WorkflowSettings] = Field(default={})
    """Workflows, by alias."""
    clients: dict[Name, ClientSettings] = Field(default={})
    """Client applications, by name."""
    teams: dict[Name, TeamSettings] = Field(default={})
    """Groups of clients, by name."""
    budgets: dict[Name, BudgetSettings] = Field(default={}, max_length=200)
    """Budgets, by name."""
    issuers: dict[Name, IssuerSettings] = Field(default={}, max_length=20)
    """Issuers of signed tokens, by name. Needs runward[oidc]."""
    console: ConsoleSettings = ConsoleSettings()
    """Console of the operations port."""
    callbacks: CallbackSettings = CallbackSettings()
    """Delivery of results to a `callback_url`."""
    attention: AttentionSettings = AttentionSettings()
    """Announcement of what needs an operator."""
    retries: RetrySettings = RetrySettings()
    """Retries of calls that cannot start a second run."""
    breaker: BreakerSettings = BreakerSettings()
    """Circuit breaker."""
    polling: PollingSettings = PollingSettings()
    """Polling of PromptLayer for results."""

    @field_validator("providers")
    @classmethod
    def _default_adapter_names(cls, providers: dict[str, ProviderSettings]) -> dict[str, ProviderSettings]:
        return {n: p if p.adapter else p.model_copy(update={"adapter": n}) for n, p in providers.items()}

    @field_validator("workflows")
    @classmethod
    def _default_workflow_names(cls, workflows: dict[str, WorkflowSettings]) -> dict[str, WorkflowSettings]:
        return {alias: w if w.name else w.model_copy(update={"name": alias}) for alias, w in workflows.items()}

    def resolved_budgets(self) -> dict[str, BudgetSettings]:
        """Return every budget by its name; the own one of a client `shop` is named `client:shop`, and so on."""
        return {name: budget for name, _, budget in all_budgets(self.budgets, *self._named)}

    @property
    def _named(
        self,
    ) -> tuple[
        dict[str, ClientSettings], dict[str, TeamSettings], dict[str, WorkflowSettings], dict[str, ProviderSettings]
    ]:
        return self.clients, self.teams, self.workflows, self.providers

    @model_validator(mode="after")
    def _check_consistency(self) -> Self:
        raise_validation_error(
            chain(
                unknown_providers(self.workflows, self.providers),
                unknown_fallbacks(self.workflows),
                unknown_passthrough_providers(self.clients, self.providers),
                unknown_teams(self.clients, self.server.ops_keys, self.teams),
                cyclic_fallbacks(self.workflows),
                duplicate_aliases(self.workflows),
                duplicate_keys(self.clients, self.server.ops_keys),
                duplicate_certificates(self.clients),
                inconsistent_tokens(self.clients, self.issuers),
                inconsistent_login(self.console.login, self.clients, self.issuers),
                unsigned_webhook(self.attention, self.callbacks),
                unknown_conditions(self.budgets, *self._named),
                unpriced_coverage(
                    all_budgets(self.budgets, *self._named), self.clients, self.workflows, self.providers
                ),
            )
        )
        return self

    def warnings(self) -> list[str]:
        """Warnings: valid settings without an effect or with a risk, one line each."""
        empty = [f"{name}: none configured" for name in ("providers", "clients") if not getattr(self, name)]
        unused = unused_settings(self.clients, self.workflows, self.providers, self.teams, self._unused_issuers())
        insecure = (
            [_PLAIN_HTTP_WARNING] if self.server.public_url and is_plaintext_remote(self.server.public_url) else []
        )
        ineffective = [f"{format_location(location)}: {text}" for location, text in unused]
        return empty + insecure + self._unmatched_certificates() + self._unrecorded_content() + ineffective

    def _unused_issuers(self) -> list[str]:
        used = {token.issuer for client in self.clients.values() for token in client.tokens}
        used |= {self.console.login.issuer} if self.console.login else set()
        return [name for name in self.issuers if name not in used]

    def _unrecorded_content(self) -> list[str]:
        if self.history.keep == "all":
            return []
        keeps = {
            "content.keep": self.content.keep,
            **{f"workflows.{alias}.content.keep": w.content.keep for alias, w in self.workflows.items()},
        }
        return [
            f"{place}: has no effect without history.keep: all"
            for place, keep in keeps.items()
            if keep not in _KEEPS_NOTHING
        ]

    def _unmatched_certificates(self) -> list[str]:
        if self.server.tls is not None and self.server.tls.client_ca is not None:
            return []
        named = (name for name, client in self.clients.items() if client.certificates)
        return [f"clients.{name}.certificates: has no effect without server.tls.client_ca" for name in named]
