"""Store contract: the history of runs that were not durable, timelines, activities, and judgements."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson
import pytest

from gateway.store.contract import Store
from gateway.store.history import MAX_TIMELINE, HistoryEntry
from gateway.store.records import Phase, StoredRun
from gateway.store.run_filter import RunFilter
from tests.store.samples import NOW, SAMPLE_FINAL_STATE, listed, new_run, new_run_with_callback

EVERYTHING = RunFilter(None)


def _recorded(number: int, **changes: Any) -> StoredRun:
    """Return a run that was not durable and ended five seconds after its creation."""
    ended: dict[str, Any] = {"order": b"", "owner": "", "phase": Phase.DONE, "status": "succeeded", "durable": False}
    return new_run(number, **{**ended, "finished_at": NOW + number + 5, **changes})


async def _ids(store: Store, wanted: RunFilter) -> list[str]:
    return [run.id for run in await listed(store, wanted)]


async def test_recorded_runs_are_found_beside_durable_ones(store: Store) -> None:
    await store.create_run(new_run(1), None, ("a",))
    entries = [HistoryEntry(_recorded(number, client=f"client{number}"), ("a", "b")) for number in (0, 2, 3)]
    await store.add_history(entries)
    assert await _ids(store, EVERYTHING) == ["run_3", "run_2", "run_1", "run_0"]
    assert await _ids(store, RunFilter("client2")) == ["run_2"]
    assert await _ids(store, RunFilter(None, tags=("a",), limit=3)) == ["run_3", "run_2", "run_1"]
    assert await _ids(store, RunFilter(None, tags=("a", "b"), before=(NOW + 3, "run_3"))) == ["run_2", "run_0"]
    assert await _ids(store, RunFilter("client3", tags=("b",))) == ["run_3"]
    assert await _ids(store, RunFilter(None, durable=True)) == ["run_1"]
    assert await _ids(store, RunFilter(None, durable=False)) == ["run_3", "run_2", "run_0"]
    assert await _ids(store, RunFilter(None, id_prefix="run_2")) == ["run_2"]
    assert await _ids(store, RunFilter(None, created_from=NOW + 1, created_until=NOW + 3)) == ["run_2", "run_1"]
    assert await _ids(store, RunFilter(None, min_duration=5, status="succeeded")) == ["run_3", "run_2", "run_0"]
    assert await _ids(store, RunFilter(None, status="queued")) == ["run_1"]


async def test_a_recorded_run_has_no_payload(store: Store) -> None:
    run = _recorded(1, details=orjson.dumps({"api": "run", "error": {"code": "internal"}}), provider_run_id="77")
    await store.add_history([HistoryEntry(run, (), b'{"a":1}\n')])
    assert await store.get_overview("run_1") == run.overview
    assert await store.get_run("run_1") is None
    assert await store.get_document("run_1") is None
    assert await store.get_timeline("run_1") == b'{"a":1}\n'
    assert await _ids(store, RunFilter(None, api="run", code="internal", provider_run_id="77")) == ["run_1"]
    assert await _ids(store, RunFilter(None, api="promptlayer")) == []
    assert not await store.redeliver_callback("run_1", now_at=NOW)
    assert await store.adopt("two", now_at=NOW + 100, until_at=NOW + 200, limit=10) == []


async def test_an_entry_whose_id_exists_is_ignored(store: Store) -> None:
    await store.create_run(new_run(1), None, ("a",))
    await store.add_history([HistoryEntry(_recorded(1)), HistoryEntry(_recorded(2))])
    await store.add_history([HistoryEntry(_recorded(2, status="failed"))])
    assert [(run.id, run.status) for run in await listed(store, EVERYTHING)] == [
        ("run_2", "succeeded"),
        ("run_1", "queued"),
    ]
    assert await _ids(store, RunFilter(None, tags=("a",))) == ["run_1"]


async def test_history_is_purged_by_age_and_number(store: Store) -> None:
    await store.create_run(new_run(9), None)
    await store.finish("run_9", replace(SAMPLE_FINAL_STATE, finished_at=NOW))
    await store.add_history([HistoryEntry(_recorded(number), ("a",)) for number in range(6)])
    assert await store.purge(runs_before_at=NOW, keys_before_at=NOW) == 0
    assert await store.purge_history(before_at=NOW + 7, most=10) == 2
    assert await store.purge_history(before_at=NOW, most=2) == 2
    assert await store.purge_history(before_at=NOW, most=2) == 0
    assert await _ids(store, EVERYTHING) == ["run_9", "run_5", "run_4"]
    assert await _ids(store, RunFilter(None, tags=("a",))) == ["run_5", "run_4"]
    assert await store.purge(runs_before_at=NOW + 1000, keys_before_at=NOW) == 1
    assert await _ids(store, EVERYTHING) == ["run_5", "run_4"]
    assert await store.get_timeline("run_0") is None


async def test_the_timeline_grows_with_the_run(store: Store) -> None:
    run = new_run_with_callback()
    await store.create_run(run, None)
    assert await store.get_timeline(run.id) == b""
    sending = replace(run, phase=Phase.SENDING, status="running", attempts=1)
    assert await store.advance(sending, b"1\n")
    assert not await store.advance(replace(sending, owner="other"), b"no\n")
    assert await store.finish(run.id, replace(SAMPLE_FINAL_STATE, events=b"2\n"))
    assert not await store.finish(run.id, replace(SAMPLE_FINAL_STATE, events=b"no\n"))
    await store.postpone_callback(run.id, due_at=NOW + 9, events=b"3\n")
    await store.settle_callback(run.id, "delivered", events=b"4\n")
    await store.settle_callback(run.id, "gave_up", events=b"no\n")
    assert await store.get_timeline(run.id) == b"1\n2\n3\n4\n"
    assert await store.get_timeline("run_2") is None


async def test_a_revision_and_a_cancellation_add_to_the_timeline(store: Store) -> None:
    await store.create_run(new_run(1), None)
    await store.create_run(new_run(2), None)
    await store.cancel_queued("run_1", replace(SAMPLE_FINAL_STATE, status="not_run", events=b"c\n"))
    await store.finish("run_2", replace(SAMPLE_FINAL_STATE, status="unknown", events=b"u\n"))
    await store.revise("run_2", replace(SAMPLE_FINAL_STATE, events=b"r\n"))
    assert await store.get_timeline("run_1") == b"c\n"
    assert await store.get_timeline("run_2") == b"u\nr\n"


async def test_a_timeline_is_bounded(store: Store) -> None:
    run = replace(new_run(1), phase=Phase.SENDING, status="running", attempts=1)
    await store.create_run(new_run(1), None)
    assert await store.advance(run, b"x" * (MAX_TIMELINE - 1) + b"\n")
    assert await store.advance(run, b"y\n")  # is left out; the progress is stored all the same
    assert await store.get_timeline(run.id) == b"x" * (MAX_TIMELINE - 1) + b"\n"


async def test_activities_are_of_unfinished_runs_of_the_owner(store: Store) -> None:
    for number in range(4):
        await store.create_run(new_run(number, owner="other" if number == 3 else "one"), None)
    await store.finish("run_2", SAMPLE_FINAL_STATE)
    waiting, retrying = b'{"waiting_for":"limit"}', b'{"retrying":true}'
    await store.set_activities("one", [("run_0", waiting), ("run_1", retrying), ("run_2", waiting), ("run_3", waiting)])
    await store.set_activities("one", [])
    found = {run.id: run.activity for run in await listed(store, EVERYTHING)}
    assert found == {"run_0": waiting, "run_1": retrying, "run_2": None, "run_3": None}
    assert await _ids(store, RunFilter(None, waiting_for="limit")) == ["run_0"]
    assert await _ids(store, RunFilter("checkout", retrying=True)) == ["run_1"]
    await store.finish("run_0", SAMPLE_FINAL_STATE)
    ended = await store.get_overview("run_0")
    assert ended is not None
    assert ended.activity is None


async def test_only_an_unknown_end_can_be_judged(store: Store) -> None:
    for number, status in enumerate(("unknown", "failed", "unknown")):
        await store.create_run(new_run(number), None)
        await store.finish(f"run_{number}", replace(SAMPLE_FINAL_STATE, status=status))
    await store.create_run(new_run(3, status="unknown", phase=Phase.FOLLOWING), None)
    await store.add_history([HistoryEntry(_recorded(4, status="unknown"))])
    results = [await store.judge(f"run_{number}", b'{"paid":true}') for number in range(6)]
    assert results == [True, False, True, False, True, False]
    assert await store.judge("run_0", b'{"paid":false}')
    judged = await store.get_overview("run_0")
    assert judged is not None
    assert judged.judgement == b'{"paid":false}'
    assert await _ids(store, RunFilter(None, judged=True)) == ["run_4", "run_2", "run_0"]
    assert await _ids(store, RunFilter(None, status="unknown", judged=False)) == ["run_3"]


@pytest.mark.parametrize("count", [0, 1, 450])
async def test_entries_are_recorded_together(store: Store, count: int) -> None:
    await store.add_history([HistoryEntry(_recorded(number), ("a",), b"e\n") for number in range(count)])
    assert len(await listed(store, RunFilter(None, tags=("a",), limit=1000))) == count
    assert await store.purge_history(before_at=NOW + 10_000, most=10) == count


def _with_content(number: int, until: float, **changes: Any) -> HistoryEntry:
    """Return the record of a run with content, which is kept `until` so many seconds after NOW."""
    content = {"order": b'{"input":%d}' % number, "document": b'{"output":"\xc3\xa9"}', "leased_until_at": 0.0}
    return HistoryEntry(_recorded(number, **{**content, **changes}), ("a",), b"e\n", NOW + until)


async def test_a_recorded_run_may_have_content(store: Store) -> None:
    """It is read as that of a durable run; the run is still none."""
    large = b"x" * 60_000
    entries = [_with_content(1, 60), HistoryEntry(_recorded(2)), _with_content(3, 60, order=large, document=large)]
    await store.add_history(entries)
    for entry in (entries[0], entries[2]):
        assert await store.get_run(entry.run.id) == entry.run
        assert await store.get_document(entry.run.id) == entry.run.document
        assert await store.get_overview(entry.run.id) == entry.run.overview
    assert await store.get_run("run_2") is None
    assert await store.get_document("run_2") is None
    assert await _ids(store, RunFilter(None, durable=False)) == ["run_3", "run_2", "run_1"]
    assert await store.adopt("two", now_at=NOW + 100, until_at=NOW + 200, limit=10) == []


async def test_content_of_a_run_that_exists_is_ignored(store: Store) -> None:
    await store.create_run(new_run(1), None)
    await store.add_history([_with_content(1, 60), _with_content(2, 60)])
    await store.add_history([_with_content(2, 60, document=b"other")])
    assert await store.get_run("run_1") == new_run(1)
    assert await store.get_document("run_2") == b'{"output":"\xc3\xa9"}'
    assert await store.purge_content(before_at=NOW + 100) == 1
    assert await store.get_run("run_1") == new_run(1)


async def test_content_is_purged_before_its_record(store: Store) -> None:
    await store.create_run(new_run(9), None)
    await store.finish("run_9", SAMPLE_FINAL_STATE)
    await store.add_history([_with_content(number, number) for number in range(230)])
    assert await store.purge_content(before_at=NOW) == 0
    assert await store.purge_content(before_at=NOW + 229) == 228  # run_9 exists
    assert await store.purge_content(before_at=NOW + 229) == 0
    assert await store.get_run("run_1") is None
    assert await store.get_document("run_1") is None
    assert await store.get_timeline("run_1") == b"e\n"
    assert await store.get_document("run_229") is not None
    assert await store.get_document("run_9") == SAMPLE_FINAL_STATE.document
    assert len(await listed(store, RunFilter(None, tags=("a",), limit=1000))) == 229


async def test_content_is_purged_with_its_record(store: Store) -> None:
    await store.add_history([_with_content(1, 900)])
    assert await store.purge_history(before_at=NOW + 100, most=10) == 1
    assert await store.get_document("run_1") is None
    assert await store.purge_content(before_at=NOW + 1000) == 0


@pytest.mark.parametrize("size", [10, 5_000])
async def test_a_revision_deletes_the_content_of_a_recorded_run(store: Store, size: int) -> None:
    """It would be outdated, and the new document is not redacted."""
    await store.add_history([_with_content(1, 60, status="unknown"), HistoryEntry(_recorded(2, status="unknown"))])
    for run_id in ("run_1", "run_2"):
        assert await store.revise(run_id, replace(SAMPLE_FINAL_STATE, document=b"x" * size))
        assert await store.get_run(run_id) is None
        assert await store.get_document(run_id) is None
    assert await store.purge_content(before_at=NOW + 100) == 0
    assert await _ids(store, RunFilter(None, status="succeeded")) == ["run_2", "run_1"]
