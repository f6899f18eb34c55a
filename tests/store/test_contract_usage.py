"""Store contract: usage is counted once for each run, in the transaction that writes its record."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from gateway.store.contract import Store
from gateway.store.history import HistoryEntry
from gateway.store.records import FinalState, Phase
from gateway.store.usage import MAX_ROWS, OTHERS, RunUsage, UsageBatch, UsageKind, add_up
from tests.store.samples import NOW, SAMPLE_FINAL_STATE, new_run

DAY = int(NOW // 86_400)
USAGE = RunUsage(DAY, "checkout", "triage", "studio", "run", "succeeded", "shop", "key_1", ("a", "b"), 40_000, 0)
LARGE = 2**53 + 1  # a Lua number would round it


def ended(number: int, outcome: str = "succeeded", **changes: Any) -> HistoryEntry:
    """Return a recorded run with usage."""
    run = new_run(number, order=b"", owner="", phase=Phase.DONE, status=outcome, durable=False, finished_at=NOW + 9)
    return HistoryEntry(run, usage=USAGE._replace(outcome=outcome, **changes))


def final(outcome: str, **changes: Any) -> FinalState:
    """Return the end of a durable run with usage."""
    return replace(SAMPLE_FINAL_STATE, status=outcome, usage=USAGE._replace(outcome=outcome, **changes))


async def found(store: Store, kind: UsageKind = UsageKind.RUNS) -> dict[tuple[str, ...], tuple[int, int, int]]:
    """Return the rows with runs, by their values."""
    rows = await store.usage.read(kind, DAY - 1, DAY + 1)
    return {row.values: (row.runs, row.spent, row.unknown) for row in rows if (row.runs, row.spent, row.unknown)[0]}


def values(outcome: str = "succeeded", workflow: str = "triage") -> tuple[str, ...]:
    """Return the values of a row."""
    return ("checkout", "shop", "key_1", workflow, "studio", "run", outcome)


async def test_recorded_runs_are_counted_with_their_records(store: Store) -> None:
    await store.usage.add(UsageBatch("one", 1, []), now_at=NOW)
    await store.add_history([ended(1), ended(2, spent=LARGE), ended(3, "unknown", spent=0, unknown=7, tags=())])
    assert await found(store) == {values(): (2, 40_000 + LARGE, 0), values("unknown"): (1, 0, 7)}
    assert await found(store, UsageKind.TAGS) == {
        ("checkout", "shop", tag, "succeeded"): (2, 40_000 + LARGE, 0) for tag in "ab"
    }


async def test_a_record_that_is_written_again_is_not_counted_again(store: Store) -> None:
    await store.add_history([ended(1), ended(2, "unknown", spent=0, unknown=5)])
    await store.add_history([ended(1), ended(2, "failed"), ended(3, "failed", spent=LARGE, tags=("c",)), ended(1)])
    await store.add_history([ended(3), ended(2), ended(1)])
    assert await found(store) == {
        values(): (1, 40_000, 0),
        values("unknown"): (1, 0, 5),
        values("failed"): (1, LARGE, 0),
    }
    assert ("checkout", "shop", "c", "failed") in await found(store, UsageKind.TAGS)


@pytest.mark.parametrize("outcome", ["succeeded", "failed", "unknown"])
async def test_the_end_of_a_durable_run_is_counted_once(store: Store, outcome: str) -> None:
    await store.create_run(new_run(1), None)
    assert not await store.finish("run_1", replace(final(outcome), owner="two"))
    assert await found(store) == {}
    assert await store.finish("run_1", final(outcome))
    assert not await store.finish("run_1", final(outcome))
    assert not await store.finish("run_2", final(outcome))
    await store.add_history([ended(1)])
    assert await found(store) == {values(outcome): (1, 40_000, 0)}


async def test_a_cancelled_run_is_counted(store: Store) -> None:
    await store.create_run(new_run(1), None)
    await store.cancel_queued("run_1", final("not_run", spent=0))
    await store.cancel_queued("run_1", final("not_run", spent=0))
    assert await found(store) == {values("not_run"): (1, 0, 0)}


@pytest.mark.parametrize("recorded", [True, False])
async def test_a_revised_end_takes_the_place_of_the_earlier_one(store: Store, recorded: bool) -> None:  # noqa: FBT001
    if recorded:
        await store.add_history([ended(1, "unknown", spent=0, unknown=LARGE), ended(2)])
    else:
        await store.create_run(new_run(1), None)
        await store.finish("run_1", final("unknown", spent=0, unknown=LARGE))
        await store.add_history([ended(2)])
    for _ in range(2):
        await store.revise("run_1", final("succeeded", spent=LARGE))
        assert await found(store) == {values(): (2, LARGE + 40_000, 0)}
        assert (await found(store, UsageKind.TAGS))["checkout", "shop", "a", "succeeded"] == (2, LARGE + 40_000, 0)
    assert sum(row.unknown for row in await store.usage.read(UsageKind.RUNS, DAY, DAY)) == 0


async def test_an_unknown_end_may_be_revised_to_unknown(store: Store) -> None:
    await store.create_run(new_run(1), None)
    for amount in (5, 6, 7):
        await store.revise("run_1", final("unknown", spent=0, unknown=amount))
    assert await found(store) == {values("unknown"): (1, 0, 7)}


async def test_without_usage_nothing_is_counted(store: Store) -> None:
    await store.create_run(new_run(1), None)
    await store.finish("run_1", SAMPLE_FINAL_STATE)
    await store.add_history([replace(ended(2), usage=None)])
    assert await found(store) == {}


async def test_a_batch_is_added_once(store: Store) -> None:
    usage = list(add_up([USAGE, USAGE, USAGE._replace(spent=LARGE)]).items())
    for number in (1, 1, 2, 1):
        await store.usage.add(UsageBatch("one", number, usage), now_at=NOW)
    await store.usage.add(UsageBatch("two", 1, usage), now_at=NOW)
    assert await found(store) == {values(): (9, 3 * (80_000 + LARGE), 0)}


async def test_the_rows_of_a_day_are_bounded_and_their_sums_are_not(store: Store) -> None:
    runs = MAX_ROWS + 20
    for first in range(0, runs, 100):
        names = range(first, min(first + 100, runs))
        await store.add_history([ended(n, "unknown", unknown=2, workflow=f"x/{n}", tags=(f"t{n}",)) for n in names])
    for kind in UsageKind:
        rows = await store.usage.read(kind, DAY, DAY)
        assert MAX_ROWS <= len(rows) <= MAX_ROWS + 1
        assert sum(row.runs for row in rows) == runs
        others = next(row for row in rows if OTHERS in row.values)
        assert others.runs == runs - MAX_ROWS
    assert (await found(store))["checkout", "shop", OTHERS, OTHERS, "studio", "run", "unknown"] == (20, 800_000, 40)
    for number in (3, runs - 1):  # one with a row of its own, and one without
        name = f"x/{number}"
        await store.revise(f"run_{number}", final("succeeded", workflow=name, tags=(f"t{number}",)))
    for kind in UsageKind:
        rows = await store.usage.read(kind, DAY, DAY)
        assert sum(row.runs for row in rows) == runs
        assert sum(row.unknown for row in rows) == 2 * (runs - 2)
        assert min(row.runs for row in rows) >= 0


async def test_other_days_are_read_and_purged_apart(store: Store) -> None:
    days = [DAY - 40, DAY - 2, DAY]
    await store.add_history([ended(n, day=day) for n, day in enumerate(days)])
    await store.add_history([ended(9, "unknown", day=DAY - 2)])
    assert sorted(row.day for row in await store.usage.read(UsageKind.RUNS, DAY - 50, DAY)) == [
        DAY - 40, DAY - 2, DAY - 2, DAY
    ]  # fmt: skip
    assert [row.day for row in await store.usage.read(UsageKind.TAGS, DAY - 50, DAY - 3)] == [DAY - 40] * 2
    deleted = 0
    while batch := await store.usage.purge(DAY):
        deleted += batch
    assert deleted == 9
    assert [row.day for row in await store.usage.read(UsageKind.RUNS, DAY - 50, DAY)] == [DAY]
    await store.revise("run_9", final("succeeded", day=DAY))  # its day is gone: there is nothing to subtract
    assert await found(store) == {values(): (2, 80_000, 0)}


async def test_a_sum_that_is_too_large_does_not_keep_runs_from_ending(store: Store) -> None:
    await store.add_history([ended(1, spent=9 * 10**18)])
    await store.add_history([ended(2, spent=9 * 10**18)])
    ((runs, spent, _),) = (await found(store)).values()
    assert runs == 2
    assert spent >= 9 * 10**18


async def test_names_are_bounded_and_may_have_any_characters(store: Store) -> None:
    name = 'p/"é\U0001f600\\' + "x" * 500
    await store.add_history([ended(1, workflow=name)])
    assert list(await found(store)) == [values(workflow=name[:100])]
