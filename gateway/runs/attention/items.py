"""Items of the attention list: what needs an operator, and what the sources of items are given."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, Literal, Protocol, TypeAlias

from gateway.clock import format_rfc3339
from gateway.observability.metrics import Metrics
from gateway.runs.budgets.budget import Budget
from gateway.store.budgets import KeepsBudgets
from gateway.store.client_key import KeepsClientKeys
from gateway.store.provider_override import ProviderOverride
from gateway.store.records import RunPage
from gateway.store.run_filter import RunFilter

MAX_ITEMS = 50
"""Items of one kind; those that begin last are left out."""

_MAX_SUBJECT = 200  # characters

Severity: TypeAlias = Literal["critical", "warning"]
"""As of the alerts: critical, runs are lost, paid for in vain or refused now; warning, look at it within the day."""


class AttentionKind(enum.StrEnum):
    """Kind of an item."""

    UNKNOWN_OUTCOMES = "unknown_outcomes"
    RUNS_OVERDUE = "runs_overdue"
    RUNS_WAITING = "runs_waiting"
    CIRCUIT_OPEN = "circuit_open"
    PROVIDER_OVERRIDDEN = "provider_overridden"
    CREDENTIALS_REFUSED = "credentials_refused"
    ISSUER_KEYS_STALE = "issuer_keys_stale"
    CALLBACKS_GIVEN_UP = "callbacks_given_up"
    BUDGET_EXHAUSTED = "budget_exhausted"
    BUDGET_LOW = "budget_low"
    KEYS_EXPIRING = "keys_expiring"
    STORED_KEYS_EXPIRING = "stored_keys_expiring"
    STORE_UNAVAILABLE = "store_unavailable"
    STORE_NOT_DURABLE = "store_not_durable"
    CONTENT_UNREADABLE = "content_unreadable"
    CONFIG_REFUSED = "config_refused"
    HISTORY_DROPPED = "history_dropped"
    SOURCE_UNAVAILABLE = "source_unavailable"


@dataclass(frozen=True, slots=True)
class AttentionItem:
    """Something that needs an operator.

    `subject`: the name of what is concerned. `action`: a command of `runward`, a request to the operations port, or a
    sentence. `since_at`: when it began, in seconds since 1970; None if that is not known. `count`: what is folded here.
    """

    kind: AttentionKind
    severity: Severity
    subject: str
    summary: str
    runbook: str
    action: str
    since_at: float | None = None
    count: int | None = None

    @property
    def id(self) -> str:
        """The same for this kind and this subject at every replica, at any time."""
        return "att_" + sha256(f"{self.kind}\0{self.subject}".encode("utf-8", "surrogatepass")).hexdigest()[:24]

    def document(self) -> dict[str, Any]:
        """Return the item as JSON."""
        since = None if self.since_at is None else format_rfc3339(datetime.fromtimestamp(self.since_at, UTC))
        return {
            "id": self.id,
            "kind": self.kind.value,
            "severity": self.severity,
            "since": since,
            "subject": self.subject[:_MAX_SUBJECT],
            "summary": self.summary,
            "runbook": self.runbook,
            "action": self.action,
            "count": self.count,
        }


class AttentionStore(KeepsBudgets, KeepsClientKeys, Protocol):
    """The part of `Store` that the sources read. Every method may raise StoreUnavailable."""

    async def list_runs(self, run_filter: RunFilter) -> RunPage:
        """See `Store.list_runs`."""

    async def list_by_callback_state(self, state: str, *, limit: int, after: str = "") -> list[str]:
        """See `Store.list_by_callback_state`."""

    async def list_overrides(self) -> list[ProviderOverride]:
        """See `Store.list_overrides`."""


@dataclass(frozen=True, slots=True)
class AttentionConfig:
    """The part of the configuration that the list depends on.

    `longest_runs`: the largest time-out of each workflow, in seconds. `key_expiries`: by owner, the time at which the
    last of its keys expires, in seconds since 1970; owners with a key that never expires are left out. `webhook`: where
    new items are sent, signed with `signing_keys`; None sends none.
    """

    longest_runs: Mapping[str, float] = field(default_factory=dict)
    key_expiries: Mapping[str, float] = field(default_factory=dict)
    webhook: str | None = None
    signing_keys: Sequence[bytes] = ()
    budgets: Sequence[Budget] = ()


@dataclass(frozen=True, slots=True)
class AttentionContext:
    """What the sources are given.

    `metrics`: those of this replica, of all its workers. `recent_refusals`: refused credentials by provider in the last
    10 minutes. `recent_drops`: records of runs dropped in the last hour. `recent_unreadable`: reads of content in the
    last hour that could not be decrypted. `now_at`: seconds since 1970.
    """

    store: AttentionStore
    metrics: Metrics
    config: AttentionConfig
    now_at: float
    recent_refusals: Mapping[str, int] = field(default_factory=dict)
    recent_drops: int = 0
    recent_unreadable: int = 0
