"""Store contract: what operators have set for providers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from redis.asyncio import Redis

from gateway.store.contract import Store, StoreReplaced, StoreUnavailable
from gateway.store.provider_override import ProviderOverride
from tests.store.samples import NOW, STORES, new_redis_store
from tests.support.valkey import shared_server
from tests.support.virtual_clock import VirtualClock

SUSPENDED = ProviderOverride("studio", "suspended", 'rotten answers, see #4711 — "é"', NOW)
OPENED = ProviderOverride("layer", "open", "", NOW + 1)


async def test_an_override_is_kept_until_it_is_removed(store: Store) -> None:
    assert [] == await store.list_overrides()
    await store.set_override(SUSPENDED)
    await store.set_override(OPENED)
    assert [OPENED, SUSPENDED] == await store.list_overrides()
    await store.purge(runs_before_at=NOW + 1e9, keys_before_at=NOW + 1e9)
    await store.remove_override("layer")
    await store.remove_override("layer")
    assert [SUSPENDED] == await store.list_overrides()


async def test_a_provider_has_one_override_the_last(store: Store) -> None:
    await store.set_override(SUSPENDED)
    changed = replace(SUSPENDED, mode="closed", note="", since_at=NOW + 0.125)
    await store.set_override(changed)
    assert [changed] == await store.list_overrides()


@pytest.mark.parametrize("name", sorted(name for name in STORES if not name.startswith("memory")))
async def test_an_override_survives_a_restart(name: str, tmp_path: Path, clock: VirtualClock) -> None:
    for before in ([], [SUSPENDED]):
        store = STORES[name](tmp_path, clock)
        await store.open()
        assert before == await store.list_overrides()
        await store.set_override(SUSPENDED)
        await store.close()


async def test_deleted_data_are_not_taken_for_the_end_of_an_override(tmp_path: Path, clock: VirtualClock) -> None:
    """FLUSHALL during an incident must not start runs at a suspended provider."""
    store = new_redis_store(tmp_path, clock)
    await store.open()
    await store.set_override(SUSPENDED)
    async with Redis(port=shared_server().port) as server:
        await server.delete(*[key async for key in server.scan_iter(f"{tmp_path}:*")])
    with pytest.raises(StoreReplaced):
        await store.list_overrides()
    with pytest.raises(StoreReplaced):
        await store.set_override(OPENED)
    await store.close()


async def test_a_closed_store_has_no_list(store: Store) -> None:
    """An error, not an empty list."""
    await store.close()
    with pytest.raises(StoreUnavailable):
        await store.list_overrides()
    with pytest.raises(StoreUnavailable):
        await store.remove_override("studio")
    await store.open()
