"""Store contract: leases and adoption of unfinished runs."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from itertools import chain

from gateway.store.contract import Store
from gateway.store.records import Phase
from tests.store.samples import NOW, SAMPLE_FINAL_STATE, new_run

AFTER_LEASE = NOW + 31  # the leases of `a_run` are over


async def _adopt(store: Store, owner: str, *, now_at: float = AFTER_LEASE, limit: int = 100) -> list[str]:
    return [run.id for run in await store.adopt(owner, now_at=now_at, until_at=now_at + 30, limit=limit)]


async def test_a_run_whose_lease_is_over_is_taken_over(store: Store) -> None:
    """R48: with its phase and all data required to continue."""
    run = new_run(1, phase=Phase.FOLLOWING, provider_run_id="98765", order=b"large" * 1000)
    await store.create_run(run, None)
    expected = replace(run, owner="two", leased_until_at=NOW + 90)
    assert [expected] == await store.adopt("two", now_at=AFTER_LEASE, until_at=NOW + 90, limit=10)
    assert expected == await store.get_run(run.id)


async def test_a_lease_protects_until_it_is_over(store: Store) -> None:
    await store.create_run(new_run(1), None)
    assert [] == await _adopt(store, "two", now_at=NOW + 29.9)
    assert ["run_1"] == await _adopt(store, "two", now_at=NOW + 30)


async def test_an_owner_does_not_adopt_its_own_runs(store: Store) -> None:
    """An owner that could not renew in time still works on its runs: its own `adopt` must not return them."""
    await store.create_run(new_run(1), None)
    assert [] == await _adopt(store, "one")
    assert ["run_1"] == await _adopt(store, "two")
    assert [] == await _adopt(store, "two", now_at=AFTER_LEASE + 1000)


async def test_a_finished_run_is_not_adopted(store: Store) -> None:
    await store.create_run(new_run(1), None)
    await store.finish("run_1", SAMPLE_FINAL_STATE)
    assert [] == await _adopt(store, "two")


async def test_the_oldest_are_taken_first(store: Store) -> None:
    for number in (3, 1, 2, 4):
        await store.create_run(new_run(number), None)
    assert ["run_1", "run_2", "run_3"] == await _adopt(store, "two", limit=3)
    assert ["run_4"] == await _adopt(store, "two", limit=3)


async def test_each_run_goes_to_one(store: Store) -> None:
    """Ten concurrent processes adopt until no run is left."""
    for number in range(100):
        await store.create_run(new_run(number), None)
    taken = await asyncio.gather(*(_adopt(store, f"owner-{n}", limit=7) for n in range(10) for _ in range(3)))
    assert sorted(f"run_{number}" for number in range(100)) == sorted(chain(*taken))


async def test_a_batch_whose_answer_was_lost_is_returned_again(store: Store) -> None:
    """R48: the reply was lost, and the batch is requested again; runs adopted by others, or ended, are left out."""
    for number in range(1, 6):
        await store.create_run(new_run(number), None)
    lost_batch = await store.adopt("two", now_at=AFTER_LEASE, until_at=NOW + 90, limit=3, batch_id=1)
    await store.finish("run_2", replace(SAMPLE_FINAL_STATE, owner="two"))
    await store.renew_leases("two", NOW + 95)
    again = await store.adopt("two", now_at=AFTER_LEASE + 9, until_at=NOW + 99, limit=3, batch_id=1)
    assert ["run_1", "run_2", "run_3"] == [run.id for run in lost_batch]
    assert ["run_1", "run_3", "run_4"] == [run.id for run in again]
    assert [99] * 3 == [run.leased_until_at - NOW for run in again]
    assert ["run_1", "run_3", "run_4"] == await _adopt(store, "three", now_at=NOW + 99, limit=3)
    left = await store.adopt("two", now_at=AFTER_LEASE + 10, until_at=NOW + 200, limit=3, batch_id=1)
    assert ["run_5"] == [run.id for run in left]


async def test_a_batch_is_not_returned_to_another_batch_id(store: Store) -> None:
    """Each batch id returns its own runs; without one, no run is returned twice."""
    for number in range(1, 4):
        await store.create_run(new_run(number), None)
    taken = [
        [run.id for run in await store.adopt("two", now_at=AFTER_LEASE, until_at=NOW + 90, limit=1, batch_id=batch_id)]
        for batch_id in (1, 2, 0, 0, 3)
    ]
    assert [["run_1"], ["run_2"], ["run_3"], [], []] == taken


async def test_a_batch_holds_only_what_it_adopted_last(store: Store) -> None:
    """A run that is adopted again belongs to the later batch."""
    await store.create_run(new_run(1), None)
    for owner, batch_id in (("two", 1), ("three", 1), ("two", 2)):
        assert 1 == len(await store.adopt(owner, now_at=AFTER_LEASE, until_at=0.0, limit=9, batch_id=batch_id))
    assert [] == await store.adopt("two", now_at=AFTER_LEASE, until_at=NOW + 90, limit=9, batch_id=1)
    assert 1 == len(await store.adopt("two", now_at=AFTER_LEASE, until_at=NOW + 90, limit=9, batch_id=2))


async def test_a_lease_is_renewed(store: Store) -> None:
    for number in (1, 2):
        await store.create_run(new_run(number), None)
    await store.create_run(new_run(3, owner="other"), None)
    await store.finish("run_2", SAMPLE_FINAL_STATE)
    await store.renew_leases("one", NOW + 60)
    assert ["run_3"] == await _adopt(store, "two")
    ends = [run and run.leased_until_at for run in [await store.get_run("run_1"), await store.get_run("run_2")]]
    assert [NOW + 60, NOW + 30] == ends
    assert ["run_1"] == await _adopt(store, "two", now_at=NOW + 60)


async def test_a_lease_can_be_given_back(store: Store) -> None:
    """R98: a stopping process releases its leases at once."""
    await store.create_run(new_run(1), None)
    await store.renew_leases("one", 0.0)
    assert ["run_1"] == await _adopt(store, "two", now_at=NOW)


async def test_an_adopted_run_is_not_renewed_by_its_last_owner(store: Store) -> None:
    await store.create_run(new_run(1), None)
    await _adopt(store, "two")
    await store.renew_leases("one", AFTER_LEASE + 1000)
    assert ["run_1"] == await _adopt(store, "three", now_at=AFTER_LEASE + 30)


async def test_the_next_process_adopts_the_runs_of_a_dead_one(store: Store) -> None:
    """R48, R49: in a store that is not shared, leases of the previous process expire at startup."""
    await store.create_run(new_run(1), None)
    await store.create_run(new_run(2, phase=Phase.SENDING), None)
    await store.create_run(new_run(3), None)
    await store.finish("run_3", SAMPLE_FINAL_STATE)
    await store.close()
    await store.open()
    assert ([] if store.shared else ["run_1", "run_2"]) == await _adopt(store, "two", now_at=NOW)
