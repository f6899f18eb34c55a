"""Sources of items about this replica, its providers and its keys: its metrics, its configuration, and overrides."""

from __future__ import annotations

import shlex

from gateway.runs.attention.items import AttentionContext, AttentionItem, AttentionKind, Severity

KEY_WARNING = 14 * 86400.0
"""Seconds before its last key expires from which an owner is an item, until as long after that."""

ISSUER_WARNING = 3600.0
"""Seconds after which the keys of an issuer are an item if they were not fetched again."""

_MAX_NAMED = 3  # workflows in a sentence


async def open_circuits(context: AttentionContext) -> list[AttentionItem]:
    """Return an item for each provider with circuits that are not closed."""
    items = []
    for provider, circuits in context.metrics.circuit_states().items():
        failing = sorted(workflow for workflow, state in circuits.items() if state != "closed")
        if failing:
            named = ", ".join(failing[:_MAX_NAMED]) + (", …" if len(failing) > _MAX_NAMED else "")
            items.append(
                AttentionItem(
                    AttentionKind.CIRCUIT_OPEN,
                    "critical",
                    provider,
                    f"Nearly all starts of these workflows at {provider} fail, so they are refused: {named}.",
                    "docs/alerts.md#runwardcircuitopen",
                    "runward providers list",
                    count=len(failing),
                )
            )
    return items


async def overridden_providers(context: AttentionContext) -> list[AttentionItem]:
    """Return an item for each provider whose starts an operator has overridden."""
    return [
        AttentionItem(
            AttentionKind.PROVIDER_OVERRIDDEN,
            "warning",
            override.provider,
            f"An operator has set {override.provider} to {override.mode}"
            + (f": {override.note}" if override.note else "."),
            "docs/alerts.md#runwardprovideroverridden",
            f"runward providers auto {shlex.quote(override.provider)}",
            override.since_at,
        )
        for override in await context.store.list_overrides()
    ]


async def refused_credentials(context: AttentionContext) -> list[AttentionItem]:
    """Return an item for each provider that has refused its key in the last 10 minutes."""
    return [
        AttentionItem(
            AttentionKind.CREDENTIALS_REFUSED,
            "critical",
            provider,
            f"{provider} has refused Runward's key in the last 10 minutes.",
            "docs/alerts.md#runwardcredentialsrefused",
            f"Put a valid key where providers.{provider}.api_key points.",
            count=count,
        )
        for provider, count in context.recent_refusals.items()
    ]


async def stale_issuers(context: AttentionContext) -> list[AttentionItem]:
    """Return an item for each issuer whose keys were not fetched for an hour, or never."""
    items = []
    for issuer, (fetched_at, failed) in context.metrics.issuer_keys().items():
        if context.now_at - fetched_at > ISSUER_WARNING and (fetched_at or failed):
            state = "are old" if fetched_at else "were never fetched, so its tokens are refused"
            items.append(
                AttentionItem(
                    AttentionKind.ISSUER_KEYS_STALE,
                    "warning" if fetched_at else "critical",
                    f"issuers.{issuer}",
                    f"The keys of the issuer {issuer} cannot be fetched: they {state}.",
                    "docs/alerts.md#runwardissuerkeysstale",
                    "runward check --connect",
                    fetched_at or None,
                )
            )
    return items


async def expiring_keys(context: AttentionContext) -> list[AttentionItem]:
    """Return an item for each owner whose last key expires within two weeks, or has expired in the last two."""
    items = []
    for owner, expires_at in context.config.key_expiries.items():
        remaining = expires_at - context.now_at
        if abs(remaining) < KEY_WARNING:
            expired = remaining <= 0
            severity: Severity = "critical" if expired else "warning"
            items.append(
                AttentionItem(
                    AttentionKind.KEYS_EXPIRING,
                    severity,
                    owner,
                    f"The last key of {owner} " + ("has expired." if expired else "expires within 14 days."),
                    "docs/operations.md#rotation-of-secrets",
                    "runward keys new",
                    expires_at if expired else expires_at - KEY_WARNING,
                )
            )
    return items


async def store_state(context: AttentionContext) -> list[AttentionItem]:
    """Return an item if the store fails, or may lose what it acknowledged."""
    items = []
    if context.metrics.gauge("runward_store_available") == 0:
        items.append(
            AttentionItem(
                AttentionKind.STORE_UNAVAILABLE,
                "critical",
                "store",
                "The store is unavailable: runs that must be stored are refused.",
                "docs/alerts.md#runwardstoreunavailable",
                "runward check --connect",
            )
        )
    if context.metrics.gauge("runward_store_durable") == 0:
        items.append(
            AttentionItem(
                AttentionKind.STORE_NOT_DURABLE,
                "warning",
                "store",
                "The store may lose acknowledged runs in a crash of its own.",
                "docs/alerts.md#runwardstorenotdurable",
                "Look at the log line store_not_durable, which has the reason.",
            )
        )
    return items


async def refused_configuration(context: AttentionContext) -> list[AttentionItem]:
    """Return an item if the configuration on disk is not the one in use."""
    if context.metrics.gauge("runward_config_last_reload_success") != 0:
        return []
    return [
        AttentionItem(
            AttentionKind.CONFIG_REFUSED,
            "warning",
            "configuration",
            "The configuration on disk is invalid: the one before stays in use, and a restart would fail.",
            "docs/alerts.md#runwardreloadrefused",
            "runward check",
        )
    ]


async def dropped_history(context: AttentionContext) -> list[AttentionItem]:
    """Return an item if records of runs were dropped in the last hour."""
    if not context.recent_drops:
        return []
    return [
        AttentionItem(
            AttentionKind.HISTORY_DROPPED,
            "warning",
            "history",
            f"{context.recent_drops} record{'s' * (context.recent_drops != 1)} of runs were dropped in the last hour: "
            "the store was slow or unavailable.",
            "docs/alerts.md#runwardhistorydropped",
            "runward check --connect",
            count=context.recent_drops,
        )
    ]


async def unreadable_content(context: AttentionContext) -> list[AttentionItem]:
    """Return an item if stored content could not be decrypted in the last hour."""
    if not context.recent_unreadable:
        return []
    return [
        AttentionItem(
            AttentionKind.CONTENT_UNREADABLE,
            "critical",
            "content",
            "Stored inputs or results could not be decrypted in the last hour: a key is missing in content.encrypt.",
            "docs/alerts.md#runwardcontentunreadable",
            "Configure the key again; the log line content_unreadable has its id.",
            count=context.recent_unreadable,
        )
    ]
