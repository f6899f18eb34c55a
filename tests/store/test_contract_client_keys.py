"""Store contract: keys of clients, of which every process reads the changes."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256
from itertools import pairwise
from pathlib import Path

import pytest
from redis.asyncio import Redis

from gateway.store.client_key import StoredKey
from gateway.store.contract import Store, StoreReplaced, StoreUnavailable
from tests.store.samples import NOW, STORES, new_redis_store
from tests.support.valkey import shared_server
from tests.support.virtual_clock import VirtualClock

KEY = StoredKey("key_1", "shop", sha256(b"1").digest(), b'{"name": "\xc3\xa9"}', NOW + 0.125)


def key(number: int, client: str = "shop") -> StoredKey:
    return replace(KEY, id=f"key_{number}", client=client, digest=sha256(b"%d" % number).digest())


def ids(keys: Sequence[StoredKey]) -> list[str]:
    return [each.id for each in keys]


async def stored(store: Store, key_id: str = "key_1") -> StoredKey:
    found = await store.client_keys.get(key_id)
    assert found is not None
    return found


async def test_a_key_is_found_by_id_and_by_digest(store: Store) -> None:
    keys = store.client_keys
    assert await keys.get("key_1") is None
    assert await keys.find(KEY.digest) is None
    full = replace(KEY, expires_at=NOW + 9.5, previous_digest=b"\0" * 32, previous_until_at=NOW + 1.5, rotated_at=NOW)
    assert await keys.add(full, most=1)
    found = await stored(store)
    assert found == replace(full, number=found.number, revision=found.number)
    assert found.number > 0
    assert found == await keys.find(KEY.digest) == await keys.find(b"\0" * 32)
    assert await keys.find(b"\1" * 32) is None


async def test_the_number_of_keys_is_bounded_also_for_concurrent_additions(store: Store) -> None:
    results = await asyncio.gather(*(store.client_keys.add(key(number), most=3) for number in range(6)))
    assert 3 == sum(results)
    assert 3 == len(await store.client_keys.list(limit=10))


async def test_a_change_is_made_of_the_newest_revision(store: Store) -> None:
    """Two operators rotate one key: one of them gets a text that works, the other one is told to look again."""
    await store.client_keys.add(KEY, most=9)
    before = await stored(store)
    digests = [sha256(b"new %d" % number).digest() for number in range(3)]
    rotated = [
        replace(before, digest=each, previous_digest=KEY.digest, previous_until_at=NOW + 60.0) for each in digests
    ]
    results = await asyncio.gather(*map(store.client_keys.change, rotated))
    assert [False, False, True] == sorted(results)
    winner = rotated[results.index(True)]
    after = await stored(store)
    assert after == replace(winner, revision=after.revision)
    assert after.revision > before.revision
    assert after == await store.client_keys.find(winner.digest) == await store.client_keys.find(KEY.digest)
    assert not await store.client_keys.change(replace(before, id="key_2"))


async def test_a_digest_that_a_change_replaces_is_no_longer_found(store: Store) -> None:
    await store.client_keys.add(KEY, most=9)
    digests = KEY.digest, sha256(b"second").digest(), sha256(b"third").digest()
    for before, after in pairwise(digests):
        assert await store.client_keys.change(replace(await stored(store), digest=after, previous_digest=before))
    assert await store.client_keys.find(digests[0]) is None
    assert await store.client_keys.find(digests[1]) is not None
    assert await store.client_keys.change(replace(await stored(store), previous_digest=None))
    assert await store.client_keys.find(digests[1]) is None


async def test_a_change_keeps_what_it_does_not_concern(store: Store) -> None:
    await store.client_keys.add(KEY, most=9)
    before = await stored(store)
    await store.client_keys.note_uses([("key_1", NOW + 60.0)])
    await store.client_keys.change(replace(before, client="other", created_at=0.0, number=77, revoked_at=NOW))
    after = await stored(store)
    assert after == replace(before, revoked_at=NOW, last_used_at=NOW + 60.0, revision=after.revision)


async def test_keys_are_listed_page_by_page_the_newest_first(store: Store) -> None:
    for number in range(1, 6):
        await store.client_keys.add(key(number, "shop" if number % 2 else "desk"), most=9)
    first = await store.client_keys.list(limit=2)
    assert ["key_5", "key_4"] == ids(first)
    assert ["key_3", "key_2", "key_1"] == ids(await store.client_keys.list(before=first[-1].number, limit=9))
    assert ["key_5", "key_3"] == ids(await store.client_keys.list(client="shop", limit=2))
    assert ["key_2"] == ids(await store.client_keys.list(client="desk", before=first[-1].number, limit=2))
    assert [] == await store.client_keys.list(client="none", limit=2)


async def test_changes_are_read_once_in_their_order(store: Store) -> None:
    empty = await store.client_keys.read_changes(0, limit=2)
    assert ([], 0) == empty
    for number in range(1, 4):
        await store.client_keys.add(key(number), most=9)
    first = await store.client_keys.read_changes(0, limit=2)
    assert ["key_1", "key_2"] == ids(first.keys)
    await store.client_keys.change(replace(first.keys[0], revoked_at=NOW))
    second = await store.client_keys.read_changes(first.keys[-1].revision, limit=9)
    assert ["key_3", "key_1"] == ids(second.keys)
    assert NOW == second.keys[1].revoked_at
    assert second.newest == second.keys[1].revision
    assert ([], second.newest) == await store.client_keys.read_changes(second.newest, limit=9)


async def test_keys_are_listed_by_their_end(store: Store) -> None:
    for number, ends in (
        (1, {}),
        (2, {"expires_at": NOW + 5.0}),
        (3, {"revoked_at": NOW + 1.0}),
        (4, {"expires_at": NOW}),
    ):
        await store.client_keys.add(replace(key(number), **ends), most=9)  # type: ignore[arg-type]
    found = await store.client_keys.list_ending(from_at=NOW, until_at=NOW + 5.0, limit=9)
    assert ["key_4", "key_3", "key_2"] == ids(found)
    assert ["key_3"] == ids(await store.client_keys.list_ending(from_at=NOW + 0.5, until_at=NOW + 9.0, limit=1))


async def test_a_use_is_no_change_and_the_latest_counts(store: Store) -> None:
    await store.client_keys.add(KEY, most=9)
    newest = (await store.client_keys.read_changes(0, limit=9)).newest
    await store.client_keys.note_uses([("key_1", NOW + 60.0), ("key_2", NOW)])
    await store.client_keys.note_uses([("key_1", NOW), *((f"key_{number}", NOW) for number in range(3, 1300))])
    assert NOW + 60.0 == (await stored(store)).last_used_at
    assert await store.client_keys.get("key_2") is None
    assert ([], newest) == await store.client_keys.read_changes(newest, limit=9)


async def test_ended_keys_are_purged_and_revisions_still_grow(store: Store) -> None:
    """A deleted key has the newest revision: the next change must not get it again."""
    for number in range(1, 5):
        await store.client_keys.add(key(number), most=9)
    await store.client_keys.change(replace(await stored(store, "key_1"), expires_at=NOW + 100.0))
    await store.client_keys.change(
        replace(await stored(store, "key_2"), revoked_at=NOW + 100.0, expires_at=NOW + 999.0)
    )
    await store.client_keys.change(replace(await stored(store, "key_3"), revoked_at=NOW + 101.0))
    await store.client_keys.change(replace(await stored(store, "key_1"), expires_at=NOW + 100.5))
    newest = (await store.client_keys.read_changes(0, limit=9)).newest
    assert 2 == await store.client_keys.purge(NOW + 101.0)
    assert ["key_4", "key_3"] == ids(await store.client_keys.list(client="shop", limit=9))
    assert await store.client_keys.find(key(1).digest) is None
    await store.client_keys.change(replace(await stored(store, "key_3"), revoked_at=None))
    changes = await store.client_keys.read_changes(newest, limit=9)
    assert ["key_3"] == ids(changes.keys)
    assert 0 == await store.client_keys.purge(NOW + 1e6)


@pytest.mark.parametrize("name", sorted(name for name in STORES if not name.startswith("memory")))
async def test_keys_survive_a_restart(name: str, tmp_path: Path, clock: VirtualClock) -> None:
    store = STORES[name](tmp_path, clock)
    await store.open()
    await store.client_keys.add(KEY, most=9)
    before = await stored(store)
    await store.close()
    with pytest.raises(StoreUnavailable):
        await store.client_keys.read_changes(0, limit=1)
    await store.open()
    assert before == await stored(store)
    assert before.revision == (await store.client_keys.read_changes(0, limit=1)).newest
    await store.close()


async def test_deleted_data_are_not_taken_for_the_end_of_all_keys(tmp_path: Path, clock: VirtualClock) -> None:
    store = new_redis_store(tmp_path, clock)
    await store.open()
    await store.client_keys.add(KEY, most=9)
    before = await stored(store)
    async with Redis(port=shared_server().port) as server:
        await server.delete(*[name async for name in server.scan_iter(f"{tmp_path}:*")])
    with pytest.raises(StoreReplaced):
        await store.client_keys.read_changes(0, limit=1)
    with pytest.raises(StoreReplaced):
        await store.client_keys.add(key(2), most=9)
    with pytest.raises(StoreReplaced):
        await store.client_keys.change(before)
    await store.close()
