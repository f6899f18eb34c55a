"""Overrides of providers in SQL. Every function runs inside a transaction of its caller."""

from __future__ import annotations

import sqlite3

from gateway.store.provider_override import ProviderOverride

_SET = "INSERT OR REPLACE INTO provider_overrides (provider, mode, note, since_at) VALUES (?, ?, ?, ?)"

_LIST = "SELECT provider, mode, note, since_at FROM provider_overrides ORDER BY provider"


def set_override(db: sqlite3.Connection, override: ProviderOverride) -> None:
    """Implement `Store.set_override`."""
    db.execute(_SET, (override.provider, override.mode, override.note, override.since_at))


def remove_override(db: sqlite3.Connection, provider: str) -> None:
    """Implement `Store.remove_override`."""
    db.execute("DELETE FROM provider_overrides WHERE provider = ?", (provider,))


def list_overrides(db: sqlite3.Connection) -> list[ProviderOverride]:
    """Implement `Store.list_overrides`."""
    return [ProviderOverride(*row) for row in db.execute(_LIST)]
