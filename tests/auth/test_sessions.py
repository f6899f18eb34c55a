"""Tokens of sessions stand for a key of the operations port, and never contain it."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from gateway.auth.keys import hash_key, new_key
from gateway.auth.ops_keys import OpsKey, Role
from gateway.auth.sessions import SESSION_SECONDS, Sessions
from gateway.store.memory.store import MemoryStore
from tests.support.clock import ManualClock

CLOCK = ManualClock()
KEY = new_key(CLOCK)
OPS_KEY = OpsKey(hash_key(KEY), Role.VIEWER, "dana")


async def opened(clock: ManualClock) -> MemoryStore:
    """Return an empty store."""
    store = MemoryStore(clock)
    await store.open()
    return store


async def test_a_token_stands_for_its_key_on_every_replica_of_the_store() -> None:
    clock = ManualClock()
    store = await opened(clock)
    token = await Sessions(store, clock).issue(OPS_KEY)
    others = [OpsKey(hash_key(new_key(clock))) for _ in range(3)]
    assert OPS_KEY == await Sessions(store, clock).find(token, [*others, OPS_KEY])
    assert KEY not in token
    assert OPS_KEY.hash.removeprefix("sha256:")[:16] not in token
    assert await Sessions(await opened(clock), clock).find(token, [OPS_KEY]) is None


async def test_a_token_ends_with_its_time_and_with_its_key() -> None:
    clock = ManualClock()
    sessions = Sessions(await opened(clock), clock)
    token = await sessions.issue(OPS_KEY)
    expiring = replace(OPS_KEY, expires=clock.now() + timedelta(seconds=5))
    assert expiring == await sessions.find(token, [expiring])
    assert await sessions.find(token, []) is None
    clock.advance(5)
    assert await sessions.find(token, [expiring]) is None
    clock.advance(SESSION_SECONDS - 6)
    promoted = replace(OPS_KEY, role=Role.OPERATOR)
    assert promoted == await sessions.find(token, [promoted])
    clock.advance(1)
    assert await sessions.find(token, [OPS_KEY]) is None


async def test_a_changed_token_is_refused() -> None:
    clock = ManualClock()
    sessions = Sessions(await opened(clock), clock)
    expiry, key_id, signature = (await sessions.issue(OPS_KEY)).split(".")
    other = OpsKey(hash_key(new_key(clock)))
    other_id = (await sessions.issue(other)).split(".")[1]
    for forged in (
        f"{int(expiry) + 1}.{key_id}.{signature}",
        f"0{expiry}.{key_id}.{signature}",
        f"{expiry}.{other_id}.{signature}",
        f"{expiry}.{key_id}.{'0' * 64}",
        f"{expiry}.{key_id}",
        f"{expiry}.{key_id}.{signature}\n",
        f"{expiry}.{key_id}.{signature}.",
        "",
        "\udcff",
        "9" * 5000,
    ):
        assert await sessions.find(forged, [OPS_KEY, other]) is None, forged


@pytest.mark.parametrize("moment", [0, 1])
async def test_a_key_that_expires_is_found_until_then(moment: int) -> None:
    clock = ManualClock()
    key = replace(OPS_KEY, expires=clock.now() + timedelta(seconds=1))
    clock.advance(moment)
    assert key.is_expired(clock.now()) == bool(moment)
