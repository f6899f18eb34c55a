"""Items about stored keys: those that expire soon, and those that have expired while in use."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.auth.stored_keys.terms import KeyTerms
from gateway.runs.attention.key_sources import expiring_stored_keys
from gateway.store.client_key import StoredKey
from gateway.store.memory.store import MemoryStore
from tests.runs.attention.samples import context
from tests.store.samples import NOW
from tests.support.clock import ManualClock

DAY = 86400.0


@pytest.mark.parametrize(
    ("members", "severity"),
    [
        ({}, None),
        ({"expires_at": NOW + 15 * DAY}, None),
        ({"expires_at": NOW + 13 * DAY}, "warning"),
        ({"expires_at": NOW + 13 * DAY, "revoked_at": NOW}, None),
        ({"expires_at": NOW + 13 * DAY, "created_at": NOW - DAY}, None),
        ({"expires_at": NOW - DAY}, None),
        ({"expires_at": NOW - DAY, "last_used_at": NOW - 2 * DAY}, "critical"),
        ({"expires_at": NOW - DAY, "last_used_at": NOW - 4 * DAY}, None),
        ({"expires_at": NOW - DAY, "last_used_at": NOW - 2 * DAY, "created_at": NOW - 3 * DAY}, "critical"),
        ({"expires_at": NOW - 15 * DAY, "last_used_at": NOW - 15 * DAY}, None),
    ],
)
async def test_a_key_is_an_item_before_its_end_and_after_it_if_it_was_in_use(
    members: dict[str, Any], severity: str | None
) -> None:
    store = MemoryStore(ManualClock())
    await store.open()
    key = StoredKey("key_1", "shop", b"d", KeyTerms("the app").encode(), NOW - 100 * DAY)
    values = {name: getattr(key, name) for name in ("id", "client", "digest", "terms", "created_at")}
    await store.client_keys.add(StoredKey(**{**values, **members}), most=9)
    items = await expiring_stored_keys(context(store, NOW))
    assert [severity] * bool(severity) == [item.severity for item in items]
    for item in items:
        assert ("stored_keys_expiring", "key_1") == (item.kind, item.subject)
        assert "the app of shop" in item.summary
