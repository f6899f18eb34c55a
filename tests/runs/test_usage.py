"""Usage of runs that are not durable: counted once, with or without a record."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from gateway.errors import ProviderError
from gateway.runs import history, usage
from gateway.runs.history import HistoryMode
from gateway.runs.model import RunRecord, RunSpec
from gateway.store.contract import StoreUnavailable
from gateway.store.history import SuccessRecord
from gateway.store.memory.usage import MemoryUsage
from gateway.store.usage import OTHERS, UsageBatch, UsageKind
from tests.runs.test_history import Recording


async def _usage(recording: Recording, kind: UsageKind = UsageKind.RUNS) -> dict[tuple[str, ...], tuple[int, int, int]]:
    """Return the usage in the store, by the values of its rows."""
    day = int(recording.clock.now().timestamp() // 86_400)
    rows = await recording.store.usage.read(kind, day - 1, day)
    return {row.values: (row.runs, row.spent, row.unknown) for row in rows}


VALUES = ("one", "", "", "triage", "studio", "run")


@pytest.mark.parametrize("keep", ["all", "kept", "none"])
async def test_usage_is_right_whatever_is_recorded(keep: HistoryMode) -> None:
    recording = Recording(keep)
    await recording.store.open()
    for _ in range(3):
        recording.end_run()
    recording.end_run(ProviderError("upstream_error", ending="unknown"))
    for _ in range(2):
        await recording.recorder.write_pending()
    assert await _usage(recording) == {(*VALUES, "succeeded"): (3, 30, 0), (*VALUES, "unknown"): (1, 0, 10)}
    assert await _usage(recording, UsageKind.TAGS) == {
        ("one", "", tag, outcome): sums
        for tag in "ab"
        for outcome, sums in {"succeeded": (3, 30, 0), "unknown": (1, 0, 10)}.items()
    }


async def test_runs_whose_records_are_dropped_are_counted_once() -> None:
    """Because of the bound while the store is away, and because of a defect."""
    recording = Recording()
    await recording.store.open()
    recording.store.unavailable = True
    for _ in range(history._MAX_PENDING + 3):
        recording.end_run()
    await recording.recorder.write_pending()
    recording.store.unavailable, recording.store.defect = False, True
    await recording.recorder.write_pending()
    assert recording.dropped == 3 + 100
    runs = history._MAX_PENDING + 3
    assert await _usage(recording) == {(*VALUES, "succeeded"): (runs, 10 * runs, 0)}


async def test_the_usage_of_successes_without_tags_is_counted_by_all_that_differs() -> None:
    recording = Recording()
    await recording.store.open()
    spec = RunSpec("one", "triage", 60.0)
    with_key = replace(spec, key_id="key_1")
    others = replace(spec, team="shop"), replace(spec, client="two"), replace(spec, workflow="sum")
    for each in (spec, with_key, *others) * 2:
        run = RunRecord.create(each, "studio", recording.clock)
        run.price, run.maybe_paid = 10, 25  # an earlier start of 15 may have been executed too
        run.finish("succeeded", recording.clock)
        recording.recorder.record(run)
        recording.end_run(tags=())
    recording.clock.advance(86_400.0)
    recording.end_run(tags=())
    await recording.recorder.write_pending()
    assert await _usage(recording, UsageKind.TAGS) == {}
    rest = "studio", "run", "succeeded"
    day = int(recording.clock.now().timestamp() // 86_400)
    rows = await recording.store.usage.read(UsageKind.RUNS, day - 1, day)
    assert {(row.day - day, row.values): (row.runs, row.spent, row.unknown) for row in rows} == {
        (-1, ("one", "", "", "triage", *rest)): (12, 120, 30),
        (-1, ("one", "shop", "", "triage", *rest)): (2, 20, 30),
        (-1, ("one", "", "key_1", "triage", *rest)): (2, 20, 30),
        (-1, ("two", "", "", "triage", *rest)): (2, 20, 30),
        (-1, ("one", "", "", "sum", *rest)): (2, 20, 30),
        (0, ("one", "", "", "triage", *rest)): (1, 10, 0),
    }


async def test_successes_whose_write_was_not_confirmed_are_not_counted_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    recording = Recording()
    await recording.store.open()
    add, lost = recording.store.add_successes, [2]

    async def add_and_lose(records: Sequence[SuccessRecord]) -> None:
        await add(records)
        lost[0] -= 1
        if lost[0] >= 0:
            raise StoreUnavailable

    monkeypatch.setattr(recording.store, "add_successes", add_and_lose)
    for count in (40, 4, 1):
        for _ in range(count):
            recording.end_run(tags=())
        await recording.recorder.write_pending()
    assert await _usage(recording) == {(*VALUES, "succeeded"): (45, 450, 0)}
    assert recording.dropped == 0


async def test_successes_whose_records_are_dropped_are_counted_once() -> None:
    """Because of the bound, of a defect of the store, and of defects of two runs."""
    recording = Recording()
    await recording.store.open()
    recording.store.unavailable = True
    recording.end_run(tags=(), warning="\ud800")  # a lone surrogate cannot be encoded
    run = RunRecord.create(RunSpec("one", "triage", 60.0), "studio", recording.clock)
    run.price = run.maybe_paid = 10
    run.timeline.add(0.0, "\ud800")
    run.finish("succeeded", recording.clock)
    recording.recorder.record(run)
    for _ in range(history._MAX_PENDING + 3):
        recording.end_run(tags=())
    await recording.recorder.write_pending()
    recording.store.unavailable, recording.store.defect = False, True
    await recording.recorder.write_pending()
    runs = history._MAX_PENDING + 3
    assert recording.dropped == 2 + 3 + 500
    assert await _usage(recording) == {(*VALUES, "succeeded"): (runs + 2, 10 * (runs + 2), 0)}


class LossyUsage(MemoryUsage):
    """Usage in memory whose answers are lost: the effect of a call is unknown to its caller."""

    lost = 2

    async def add(self, batch: UsageBatch, *, now_at: float) -> None:
        """See `UsageStore.add`."""
        await super().add(batch, now_at=now_at)
        if self.lost:
            self.lost -= 1
            raise StoreUnavailable


async def test_usage_whose_write_was_not_confirmed_is_not_counted_twice() -> None:
    recording = Recording("none")
    await recording.store.open()
    recording.store.usage = LossyUsage(recording.store._require_open)
    for _ in range(4):
        recording.end_run()
        await recording.recorder.write_pending()
    assert await _usage(recording) == {(*VALUES, "succeeded"): (4, 40, 0)}


async def test_pending_usage_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(usage, "_MAX_DIFFERENT", 3)
    recording = Recording("none")
    await recording.store.open()
    first = usage.usage_of(recording.end_run())
    for number in range(20):
        recording.recorder.unrecorded.count(first._replace(workflow=f"studio/{number}", key=f"key_{number}"))
    await recording.recorder.write_pending()
    found = await _usage(recording)
    assert len(found) == 4
    assert found["one", "", OTHERS, OTHERS, "studio", "run", "succeeded"] == (18, 180, 0)
    assert sum(runs for runs, _, _ in found.values()) == 21


async def test_old_usage_is_purged() -> None:
    recording = Recording("none")
    await recording.store.open()
    recording.end_run()
    await recording.recorder.write_pending()
    recording.clock.advance(399 * 86_400.0)
    await recording.recorder.purge()
    day = int(recording.clock.now().timestamp() // 86_400)
    assert len(await recording.store.usage.read(UsageKind.RUNS, day - 400, day)) == 1
    recording.clock.advance(2 * 86_400.0)
    await recording.recorder.purge()
    assert await recording.store.usage.read(UsageKind.RUNS, day - 400, day) == []
