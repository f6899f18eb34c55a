"""Store contract: many records of successes, which may be stored together, are found and deleted as single runs are."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import orjson
import pytest

from gateway.store.contract import Store
from gateway.store.history import HistoryEntry, SuccessRecord
from gateway.store.run_filter import RunFilter
from gateway.store.usage import RunUsage, UsageKind
from tests.store.samples import NOW, SAMPLE_FINAL_STATE, listed, new_run

EVERYTHING = RunFilter(None, limit=1_000)
ODD_TEXT = '"quoted" \\ \n\t %\x7f\u2028,['


def _success(number: int, **changes: Any) -> SuccessRecord:
    """Return the record of a run that took five seconds. Every second is of another workflow."""
    created_at = NOW + number / 8
    record = SuccessRecord(
        created_at=created_at,
        id=f"run_{number:06x}",
        client="checkout",
        workflow="summary" if number % 2 else "triage",
        provider="studio",
        deadline_at=created_at + 60.5,
        attempts=1 + number % 3,
        provider_run_id=f"p{number}" if number % 5 else None,
        finished_at=created_at + 5,
        details=orjson.dumps(
            {
                "metadata": {"number": f"{number % 10}", "odd": ODD_TEXT},
                "api": "run",
                **({"team": f"team {number % 4}", "key": f"key_{number % 3}"} if number >= 60 else {}),
            }
        ),
        timeline=b'[["%d"]]\n' % number,
    )
    return record._replace(**changes)


def _numbers(ids: Sequence[str]) -> list[int]:
    return [int(each.removeprefix("run_"), 16) for each in ids]


async def _found(store: Store, **conditions: Any) -> list[int]:
    runs = await listed(store, RunFilter(**{"client": None, "limit": 1_000, **conditions}))
    return _numbers([run.id for run in runs])


async def _all_pages(store: Store, wanted: RunFilter) -> list[str]:
    """Return the runs of a list by following its pages."""
    found: list[str] = []
    while True:
        page = await store.list_runs(wanted)
        found += [run.id for run in page.runs]
        before = page.stopped_at
        if before is None and len(page.runs) == wanted.limit:
            before = page.runs[-1].created_at, page.runs[-1].id
        if before is None:
            return found
        assert wanted.before is None or before < wanted.before
        wanted = replace(wanted, before=before)


async def test_each_is_as_it_was_recorded(store: Store) -> None:
    records = [_success(number) for number in range(100)]
    await store.add_successes(random.Random(1).sample(records, 100))
    for record in (records[0], records[1], records[55], records[99]):
        assert await store.get_overview(record.id) == record.run.overview
        assert await store.get_timeline(record.id) == record.timeline
        assert await store.get_run(record.id) is None
        assert await store.get_document(record.id) is None
        assert not await store.judge(record.id, b"{}")
    assert await store.get_overview("run_000064") is None
    assert await store.get_timeline("run_000064") is None
    assert await listed(store, EVERYTHING) == [record.run.overview for record in reversed(records)]


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        ({}, range(119, -1, -1)),
        ({"client": "checkout"}, [number for number in range(119, -1, -1) if number not in {7, 101}]),
        ({"client": "none"}, []),
        ({"client": "other"}, [101, 7]),
        ({"limit": 3, "client": "checkout", "before": (NOW + 50 / 8, "run_000032")}, [49, 48, 47]),
        ({"workflow": "summary", "created_until": NOW + 1}, [7, 5, 3, 1]),
        ({"workflow": "triag"}, []),
        ({"provider": "studio", "created_from": NOW + 118 / 8}, [119, 118]),
        ({"provider": "p17"}, []),
        ({"provider_run_id": "p17"}, [17]),
        ({"provider_run_id": "p17", "client": "other"}, []),
        ({"provider_run_id": "run_000011"}, []),
        ({"id_prefix": "run_00002"}, range(47, 31, -1)),
        ({"id_prefix": "run_000021"}, [33]),
        ({"id_prefix": "000021"}, []),
        ({"status": "succeeded", "min_duration": 5.0, "created_until": NOW + 0.25}, [1, 0]),
        ({"min_duration": 5.1}, []),
        ({"max_duration": 4.9}, []),
        ({"metadata": (("number", "3"), ("odd", ODD_TEXT)), "created_until": NOW + 3}, [23, 13, 3]),
        ({"metadata": (("number", "33"),)}, []),
        ({"api": "run", "durable": False, "judged": False, "created_until": NOW + 0.25}, [1, 0]),
        ({"api": "promptlayer"}, []),
        ({"team": "team 1", "key": "key_2"}, range(113, 60, -12)),
        ({"team": "team 1", "client": "other"}, [101]),
        ({"team": "team"}, []),
        ({"key": "team 1"}, []),
        ({"status": "failed"}, []),
        ({"status": "queued"}, []),
        ({"durable": True}, []),
        ({"judged": True}, []),
        ({"tags": ("a",)}, []),
        ({"code": "internal"}, []),
        ({"replay_of": "run_000001"}, []),
        ({"retrying": True}, []),
        ({"waiting_for": "limit"}, []),
    ],
)
async def test_each_condition_holds(store: Store, conditions: dict[str, Any], expected: Sequence[int]) -> None:
    others = {7: "other", 101: "other"}
    records = [_success(number, client=others.get(number, "checkout")) for number in range(120)]
    await store.add_successes(records[:60])
    await store.add_successes(records[60:])
    assert await _found(store, **conditions) == list(expected)


async def test_they_stand_among_all_other_runs(store: Store) -> None:
    """Pages are in the order of the creations, whatever was stored together."""
    runs = [new_run(0, id=f"run_{number:06x}", created_at=NOW + number / 8) for number in range(0, 300, 3)]
    for run in runs:
        await store.create_run(run, None)
    await store.finish(runs[0].id, SAMPLE_FINAL_STATE)
    await store.add_history([HistoryEntry(_success(number).run, ("a",)) for number in range(1, 300, 6)])
    ends = [number for number in range(300) if number % 3 == 2 or number % 6 == 4]
    random.Random(2).shuffle(ends)  # they end in another order
    for first in range(0, len(ends), 50):
        await store.add_successes([_success(number) for number in ends[first : first + 50]])
    assert _numbers(await _all_pages(store, RunFilter(None, limit=7))) == list(range(299, -1, -1))
    assert _numbers(await _all_pages(store, RunFilter("checkout", limit=299))) == list(range(299, -1, -1))
    durable = RunFilter(None, durable=False, limit=10, max_examined=25)
    assert _numbers(await _all_pages(store, durable)) == [number for number in range(299, -1, -1) if number % 3]
    rare = RunFilter(None, metadata=(("number", "4"),), max_examined=30)
    assert _numbers(await _all_pages(store, rare)) == [n for n in range(299, -1, -1) if n % 10 == 4 and n % 3]


async def test_a_page_stops_where_the_first_of_its_searches_did(store: Store) -> None:
    await store.add_successes([_success(number) for number in range(100)])
    page = await store.list_runs(RunFilter(None, metadata=(("number", "none"),), max_examined=40))
    assert page.runs == []
    assert page.stopped_at == (NOW + 60 / 8, "run_00003c")


async def test_the_same_may_be_given_again(store: Store) -> None:
    """A write may have been committed although it failed."""
    records = [_success(number, client="other" if number < 3 else "checkout") for number in range(60)]
    await store.add_successes(records)
    await store.add_successes(records)
    await store.add_successes([])
    assert await _found(store) == list(range(59, -1, -1))
    assert await store.purge_history(before_at=NOW, most=0) == 60


async def test_their_usage_is_counted_once(store: Store) -> None:
    """Whether they are stored together or alone, as those of a client with few."""
    usage = RunUsage(int(NOW // 86_400), "checkout", "triage", "studio", "run", "succeeded", "shop", spent=2**53 + 1)
    records = [_success(number, usage=usage._replace(unknown=number % 2)) for number in range(60)]
    records += [_success(number, client="other", usage=usage._replace(client="other")) for number in range(60, 63)]
    records.append(_success(63))  # it has none
    records.append(_success(64, created_at=NOW - 5_000, usage=usage._replace(day=usage.day - 1)))
    for part in (records[:40], records[:40], records[40:], records[40:], []):
        await store.add_successes(part)
    expected = {
        (usage.day, "checkout"): (60, 60 * usage.spent, 30),
        (usage.day, "other"): (3, 3 * usage.spent, 0),
        (usage.day - 1, "checkout"): (1, usage.spent, 0),
    }
    for most in (100, 37, 0):  # deletion changes nothing
        await store.purge_history(before_at=NOW - 10_000, most=most)
        rows = await store.usage.read(UsageKind.RUNS, usage.day - 1, usage.day)
        assert {(row.day, row.values[0]): (row.runs, row.spent, row.unknown) for row in rows} == expected


async def test_a_run_that_exists_hides_its_record(store: Store) -> None:
    run = new_run(0, id="run_000005", created_at=NOW + 5 / 8)
    await store.create_run(run, None)
    await store.add_successes([_success(number) for number in range(40)])
    overview = await store.get_overview(run.id)
    assert overview is not None
    assert overview.durable
    runs = await listed(store, EVERYTHING)
    assert len(runs) == 40
    assert [found.durable for found in runs if found.id == run.id] == [True]


async def test_they_are_purged_by_number(store: Store) -> None:
    """The oldest first, exactly as many as are too many."""
    await store.create_run(new_run(0, id="run_0000ff", created_at=NOW + 32), None)
    await store.add_successes([_success(number) for number in range(50)])
    await store.add_successes([_success(number) for number in range(50, 100)])
    await store.add_history([HistoryEntry(_success(number).run, ("a",)) for number in range(100, 110)])
    assert await store.purge_history(before_at=NOW, most=200) == 0
    assert await store.purge_history(before_at=NOW, most=85) == 25
    assert await _found(store, durable=False) == list(range(109, 24, -1))
    assert await store.purge_history(before_at=NOW, most=55) == 30
    assert await store.purge_history(before_at=NOW, most=5) == 50
    assert await _found(store, durable=False) == [109, 108, 107, 106, 105]
    assert await store.get_timeline("run_000020") is None
    assert await _found(store, durable=True) == [255]


async def test_they_are_purged_by_age(store: Store) -> None:
    """A run may stay as long as those that were recorded in the same half second."""
    for first in (0, 50, 100):
        await store.add_successes([_success(number) for number in range(first, first + 50)])
    assert await store.purge_history(before_at=NOW + 5 + 49 / 8 + 0.01, most=1_000) == 50
    assert await _found(store) == list(range(149, 49, -1))
    assert await store.purge_history(before_at=NOW + 1_000, most=1_000) == 100
    assert await _found(store) == []


async def test_runs_of_very_different_times_are_found(store: Store) -> None:
    """Some took hours, and ended with others."""
    records = [_success(number) for number in range(100)]
    late = [_success(number + 200, created_at=NOW - 5_000 - number) for number in range(40)]
    await store.add_successes(records + late)
    assert await _found(store, created_until=NOW - 4_000) == list(range(200, 240))
    assert len(await _all_pages(store, RunFilter("checkout", limit=9))) == 140


@pytest.mark.parametrize(
    "odd", [{"details": b'{\n"a":1}'}, {"timeline": b"a\0b"}, {"id": 'run,"1'}, {"workflow": ODD_TEXT}]
)
async def test_no_value_of_a_record_harms_another(store: Store, odd: dict[str, Any]) -> None:
    records = [_success(number, **(odd if number == 20 else {})) for number in range(40)]
    await store.add_successes(records)
    assert await listed(store, EVERYTHING) == [record.run.overview for record in reversed(records)]
    assert await store.get_overview(records[20].id) == records[20].run.overview
    assert await store.get_timeline(records[20].id) == records[20].timeline


async def test_they_are_there_after_reopening(store: Store) -> None:
    await store.add_successes([_success(number) for number in range(40)])
    await store.close()
    await store.open()
    assert await _found(store) == list(range(39, -1, -1))
