"""Tables of `runward check`. Of a secret, only its presence is shown."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from gateway.cli.connection_checks import CheckResult
from gateway.cli.errors import sanitize_for_terminal
from gateway.settings import (
    ClientLimitSettings,
    ClientSettings,
    LimitSettings,
    ProviderLimitSettings,
    RateSpec,
    Settings,
    WorkflowSettings,
)

_PERIODS = {1.0: "s", 60.0: "m", 3600.0: "h"}
_PIPE_WIDTH = 160  # columns where the output is not a terminal, so that lines are not folded


def create_console() -> Console:
    """Console for standard output; wide if that is not a terminal."""
    detected = Console()
    return detected if detected.is_terminal else Console(width=_PIPE_WIDTH)


def providers_table(settings: Settings) -> Table:
    """Table of the accounts at providers."""
    return _table(
        "Providers",
        ("name", "adapter", "base URL", "key", "limits"),
        [
            (
                name,
                _format_adapter(p.adapter, p.dialect),
                p.base_url or "default of the adapter",
                "found",
                _format_limits(p.limits),
            )
            for name, p in settings.providers.items()
        ],
    )


def workflows_table(settings: Settings) -> Table:
    """Table of the workflows, by alias."""
    return _table(
        "Workflows",
        ("alias", "runs", "release", "timeout", "repeatable", "fallback", "limits"),
        [
            (
                alias,
                f"{w.provider}/{w.name}",
                _format_release(w),
                _format_seconds(w.timeout)
                + (f" (at most {_format_seconds(w.max_timeout)})" if w.max_timeout > w.timeout else ""),
                "yes" if w.repeatable else "no",
                " → ".join(w.fallback) or "-",
                _format_limits(w.limits),
            )
            for alias, w in settings.workflows.items()
        ],
    )


def clients_table(settings: Settings, now: datetime) -> Table:
    """Table of the clients; keys that have expired at `now` are not counted."""
    return _table(
        "Clients",
        ("name", "keys", "next expiry", "may run", "limits"),
        [
            (
                name,
                _format_credentials(c, now),
                _next_expiry(c, now),
                ", ".join(c.workflows),
                _format_limits(c.limits),
            )
            for name, c in settings.clients.items()
        ],
    )


def describe_encryption(settings: Settings) -> str:
    """Whether inputs and results are encrypted in the store, and with how many keys."""
    count = len(settings.content.encrypt.all_keys)
    return f"encrypted (AES-256-GCM), keys: {count}" if count else "not encrypted (content.encrypt)"


def describe_tracing(settings: Settings) -> str:
    """Whether spans are sent, and by which convention."""
    tracing = settings.tracing
    return f"OpenTelemetry, convention {tracing.convention}" if tracing.enabled else "off (tracing.enabled)"


def connections_table(results: Sequence[CheckResult]) -> Table:
    """Table of connection checks."""
    return _table(
        "Connections",
        ("subject", "check", "status", "detail"),
        [(result.subject, result.check, result.status, sanitize_for_terminal(result.detail)) for result in results],
    )


def _table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))  # brackets of a pattern such as support-[ab] are not markup
    return table


def _format_adapter(name: str, dialect: str | None) -> str:
    return f"{name} ({dialect})" if dialect else name


def _format_release(workflow: WorkflowSettings) -> str:
    return workflow.label or (f"version {workflow.version}" if workflow.version else "-")


def _format_seconds(seconds: float) -> str:
    return f"{seconds:g} s"


def _valid_key_expiries(client: ClientSettings, now: datetime) -> list[datetime | None]:
    return [key.expires for key in client.keys if key.expires is None or key.expires > now]


def _format_credentials(client: ClientSettings, now: datetime) -> str:
    keys = str(len(_valid_key_expiries(client, now)))
    others = {"certificates": len(client.certificates), "tokens": len(client.tokens)}
    return " + ".join([keys, *(f"{count} {kind}" for kind, count in others.items() if count)])


def _next_expiry(client: ClientSettings, now: datetime) -> str:
    expiries = [end for end in _valid_key_expiries(client, now) if end is not None]
    return min(expiries).strftime("%Y-%m-%d %H:%M UTC") if expiries else "-"


def _format_limits(limits: LimitSettings) -> str:
    named = {
        "": _format_rate(limits.rate),
        "burst": limits.burst,
        "concurrency": limits.concurrency,
        "daily": limits.daily if isinstance(limits, ClientLimitSettings) else None,
        "wait": _format_seconds(limits.max_wait) if isinstance(limits, ProviderLimitSettings) else None,
    }
    return ", ".join(f"{name} {value}".strip() for name, value in named.items() if value is not None) or "-"


def _format_rate(rate: RateSpec | None) -> str | None:
    return f"{rate.count:g}/{_PERIODS[rate.per]}" if rate else None
