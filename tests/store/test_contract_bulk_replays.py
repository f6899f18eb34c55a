"""Store contract: bulk replays, of which a change is made once."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.store.bulk_replay import BulkReplay
from gateway.store.contract import Store, StoreUnavailable
from tests.store.samples import NOW, STORES
from tests.support.virtual_clock import VirtualClock

PLAN = BulkReplay("rpl_1", b'{"runs": ["\xc3\xa9"]}', NOW + 0.125, NOW + 3600)


async def test_a_plan_is_kept_as_it_was_first_stored(store: Store) -> None:
    assert await store.bulk_replays.get("rpl_1") is None
    await store.bulk_replays.add(PLAN)
    await store.bulk_replays.add(replace(PLAN, plan=b"{}", delete_at=0.0))
    assert PLAN == await store.bulk_replays.get("rpl_1")
    assert [] == await store.bulk_replays.list_running()


async def test_a_change_is_made_of_the_newest_revision(store: Store) -> None:
    """Two operators start one job; a process whose bulk replay was taken over writes nothing."""
    await store.bulk_replays.add(PLAN)
    started = replace(PLAN, state="running", progress=b'{"next": 1}', owner="me", leased_until_at=NOW + 30.5)
    results = await asyncio.gather(*(store.bulk_replays.change(started) for _ in range(3)))
    assert [False, False, True] == sorted(results)
    expected = replace(started, revision=1)
    assert expected == await store.bulk_replays.get("rpl_1")
    assert [replace(expected, plan=b"")] == await store.bulk_replays.list_running()
    taken_over = replace(expected, owner="other", plan=b"", created_at=0.0)
    assert await store.bulk_replays.change(taken_over)
    assert not await store.bulk_replays.change(replace(expected, state="done"))
    assert replace(expected, owner="other", revision=2) == await store.bulk_replays.get("rpl_1")
    assert not await store.bulk_replays.change(replace(PLAN, id="rpl_2"))


async def test_running_ones_are_listed_by_id(store: Store) -> None:
    states = {"rpl_3": "running", "rpl_2": "aborted", "rpl_1": "running", "rpl_4": "done", "rpl_5": "planned"}
    for name, state in states.items():
        await store.bulk_replays.add(replace(PLAN, id=name, state=state))  # type: ignore[arg-type]
    assert ["rpl_1", "rpl_3"] == [each.id for each in await store.bulk_replays.list_running()]


async def test_old_ones_are_purged(store: Store) -> None:
    await store.bulk_replays.add(PLAN)
    await store.bulk_replays.add(replace(PLAN, id="rpl_2", state="running", delete_at=NOW + 3601))
    assert 1 == await store.bulk_replays.purge(NOW + 3600.5)
    assert await store.bulk_replays.get("rpl_1") is None
    assert ["rpl_2"] == [each.id for each in await store.bulk_replays.list_running()]


@pytest.mark.parametrize("name", sorted(name for name in STORES if not name.startswith("memory")))
async def test_a_bulk_replay_survives_a_restart(name: str, tmp_path: Path, clock: VirtualClock) -> None:
    store = STORES[name](tmp_path, clock)
    await store.open()
    await store.bulk_replays.add(PLAN)
    await store.close()
    with pytest.raises(StoreUnavailable):
        await store.bulk_replays.get("rpl_1")
    await store.open()
    assert PLAN == await store.bulk_replays.get("rpl_1")
    await store.close()
