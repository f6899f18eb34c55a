"""History: records of runs that are not durable, behind their responses, within bounds."""

from __future__ import annotations

import pickle
from collections.abc import Sequence

import orjson
import pytest
import structlog

from gateway.errors import ProviderError
from gateway.runs import history
from gateway.runs.durable.codec import encode_record_details
from gateway.runs.history import HistoryConfig, HistoryMode, HistoryRecorder
from gateway.runs.model import RunRecord, RunSpec
from gateway.runs.recorded_content import ContentRule, HeldContent
from gateway.runs.timeline import decode_timeline
from gateway.store.contract import StoreUnavailable
from gateway.store.history import HistoryEntry, SuccessRecord
from gateway.store.memory.store import MemoryStore
from gateway.store.run_filter import RunFilter
from tests.store.samples import listed
from tests.support.clock import ManualClock


class SlowStore(MemoryStore):
    """Store that may be unavailable, or fail once by a defect.

    `groups` has the size of each group that was added, `successes` those of groups of successes.
    """

    unavailable = False
    defect = False

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(clock)
        self.groups: list[int] = []
        self.successes: list[int] = []

    async def add_history(self, entries: Sequence[HistoryEntry]) -> None:
        """See `Store.add_history`."""
        if self.unavailable:
            raise StoreUnavailable
        if self.defect:
            self.defect = False
            raise ValueError
        if entries:
            self.groups.append(len(entries))
        await super().add_history(entries)

    async def add_successes(self, records: Sequence[SuccessRecord]) -> None:
        """See `Store.add_successes`."""
        if self.unavailable:
            raise StoreUnavailable
        if self.defect:
            self.defect = False
            raise ValueError
        self.successes.append(len(records))
        groups, self.groups = self.groups, []
        await super().add_successes(records)
        self.groups = groups


class Recording:
    """A recorder with its store, and the number of records that it has dropped."""

    def __init__(self, keep: HistoryMode = "all", most: int = 1000) -> None:
        self.clock = ManualClock()
        self.store = SlowStore(self.clock)
        self.dropped = 0
        self.recorder = HistoryRecorder(
            self.store, self.clock, structlog.get_logger(), self._drop, HistoryConfig(keep, 60.0, most)
        )

    def _drop(self, count: int) -> None:
        self.dropped += count

    def end_run(
        self,
        error: ProviderError | None = None,
        content: HeldContent | None = None,
        *,
        warning: str | None = None,
        tags: tuple[str, ...] = ("a", "b"),
    ) -> RunRecord:
        """Record a run that took two seconds."""
        spec = RunSpec("one", "triage", 60.0, {"q": "CANARY"}, {"ticket": "4711"}, tags, label="prod")
        run = RunRecord.create(spec, "studio", self.clock)
        run.price = run.maybe_paid = 10
        run.attempts, run.output, run.provider_run_id, run.warning = 1, "CANARY", "77", warning
        self.clock.advance(2.0)
        run.finish("succeeded" if error is None else error.ending, self.clock)
        self.recorder.record(run, error, content)
        return run


async def test_a_run_is_recorded_without_its_payloads() -> None:
    recording = Recording()
    await recording.store.open()
    run = recording.end_run()
    assert [] == await listed(recording.store, RunFilter(None))  # never before the response
    await recording.recorder.write_pending()
    [found] = await listed(recording.store, RunFilter("one", tags=("a", "b"), metadata=(("ticket", "4711"),)))
    assert (run.id, "succeeded", False, 1, "77") == (
        found.id,
        found.status,
        found.durable,
        found.attempts,
        found.provider_run_id,
    )
    details = orjson.loads(found.details or b"")
    assert {"api": "run", "label": "prod", "tags": ["a", "b"]}.items() <= details.items()
    timeline = await recording.store.get_timeline(run.id)
    assert timeline is not None
    assert ["ended"] == [event["event"] for event in decode_timeline(timeline)]
    assert b"CANARY" not in (found.details or b"") + timeline


async def test_the_record_has_the_error() -> None:
    recording = Recording()
    await recording.store.open()
    recording.end_run(ProviderError("upstream_error", "The provider failed.", ending="unknown"))
    await recording.recorder.write_pending()
    [found] = await listed(recording.store, RunFilter(None, code="upstream_error", status="unknown"))
    assert "The provider failed." == orjson.loads(found.details or b"")["error"]["detail"]


async def test_records_wait_for_an_unavailable_store() -> None:
    """They are written in groups, once, when it is available again."""
    recording = Recording()
    await recording.store.open()
    for _ in range(240):
        recording.end_run()
    recording.store.unavailable = True
    await recording.recorder.write_pending()
    recording.store.unavailable = False
    await recording.recorder.write_pending()
    await recording.recorder.write_pending()
    assert ([100, 100, 40], 0) == (recording.store.groups, recording.dropped)


async def test_records_beyond_the_bound_are_dropped_and_counted() -> None:
    recording = Recording()
    await recording.store.open()
    recording.store.unavailable = True
    for _ in range(history._MAX_PENDING + 3):
        recording.end_run()
    assert 3 == recording.dropped
    await recording.recorder.close()
    assert history._MAX_PENDING + 3 == recording.dropped


async def test_what_is_pending_is_written_at_the_end() -> None:
    recording = Recording()
    await recording.store.open()
    recording.end_run()
    await recording.recorder.close()
    assert ([1], 0) == (recording.store.groups, recording.dropped)


async def test_only_kept_runs_have_a_record_if_so_configured() -> None:
    for keep in ("kept", "none"):
        recording = Recording(keep)
        await recording.store.open()
        recording.end_run()
        await recording.recorder.write_pending()
        assert [] == recording.store.groups
        assert recording.recorder.keeps_timelines() is (keep == "kept")


async def test_old_records_and_surplus_ones_are_purged() -> None:
    recording = Recording(most=2)
    await recording.store.open()
    runs = [recording.end_run() for _ in range(4)]
    await recording.recorder.write_pending()
    await recording.recorder.purge()
    assert [runs[3].id, runs[2].id] == [run.id for run in await listed(recording.store, RunFilter(None))]
    recording.clock.advance(61.0)
    await recording.recorder.purge()
    assert [] == await listed(recording.store, RunFilter(None))


async def test_records_with_content_count_against_the_same_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """However small their content is."""
    monkeypatch.setattr(history, "_MAX_PENDING", 5)
    recording = Recording()
    rule = ContentRule("all")
    for number in range(8):
        recording.end_run(content=HeldContent(rule, "studio", 10, b"{}") if number % 2 else None)
    assert 3 == recording.dropped


async def test_a_record_with_a_defect_does_not_take_others_with_it() -> None:
    recording = Recording()
    await recording.store.open()
    for number in range(3):
        recording.end_run(warning="\ud800" if number == 1 else None)  # a lone surrogate cannot be encoded
    await recording.recorder.write_pending()
    assert (2, 1) == (len(await listed(recording.store, RunFilter(None))), recording.dropped)


async def test_a_group_that_the_store_cannot_take_does_not_keep_later_ones_from_being_written(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(history, "_GROUP", 2)
    recording = Recording()
    await recording.store.open()
    recording.store.defect = True
    for _ in range(4):
        recording.end_run()
    await recording.recorder.write_pending()
    assert ([2], 2) == (recording.store.groups, recording.dropped)


@pytest.mark.parametrize("large", ["metadata", "members", "warning", "error"])
async def test_what_large_requests_and_responses_leave_in_pending_records_is_bounded(large: str) -> None:
    """Ten thousand of them may wait for the store."""
    recording = Recording()
    text = "x" * 1_000_000
    spec = RunSpec("one", "triage", 60.0)
    if large == "metadata":
        spec.metadata = {"text": text}
    elif large == "members":
        spec.metadata = {f"name {number}": "" for number in range(1000)}
    run = RunRecord.create(spec, "studio", recording.clock)
    run.warning = text if large == "warning" else None
    error = ProviderError("upstream_error", text if large == "error" else "", ending="failed")
    run.finish("failed", recording.clock)
    recording.recorder.record(run, error)
    assert len(pickle.dumps(list(recording.recorder._pending))) < 10_000
    await recording.store.open()
    await recording.recorder.write_pending()
    [found] = await listed(recording.store, RunFilter(None))
    metadata = orjson.loads(found.details or b"").get("metadata")
    assert metadata == (None if large in {"metadata", "members"} else {})


async def test_successes_without_tags_are_recorded_as_all_others() -> None:
    """They are the most, and are stored together."""
    recording = Recording()
    await recording.store.open()
    runs = [recording.end_run(tags=()) for _ in range(100)]
    assert [] == await listed(recording.store, RunFilter(None))  # never before the response
    await recording.recorder.write_pending()
    found = await listed(recording.store, RunFilter("one", metadata=(("ticket", "4711"),), limit=200))
    assert [run.id for run in reversed(runs)] == [each.id for each in found]
    [last, *_] = found
    assert (runs[-1].created_at.timestamp(), 2.0) == (last.created_at, (last.finished_at or 0.0) - last.created_at)
    assert ("succeeded", False, 1, "77", "studio") == (
        last.status,
        last.durable,
        last.attempts,
        last.provider_run_id,
        last.provider,
    )
    cost = {"amount": "0.00001", "certainty": "spent"}
    details = {"metadata": {"ticket": "4711"}, "cost": cost, "api": "run", "label": "prod", "price": 10}
    assert details == orjson.loads(last.details or b"")
    timeline = await recording.store.get_timeline(last.id)
    assert timeline is not None
    [event] = decode_timeline(timeline)
    assert {"at": last.finished_at, "event": "ended", "status": "succeeded"} == event
    assert b"CANARY" not in (last.details or b"") + timeline
    assert ([100], []) == (recording.store.successes, recording.store.groups)


async def test_what_happened_to_a_success_is_in_its_details() -> None:
    recording = Recording()
    await recording.store.open()
    spec = RunSpec("one", "triage", 60.0, version=3, api="promptlayer")
    run = RunRecord.create(spec, "studio", recording.clock)
    run.timeline.add_wait(run.started_monotonic, run.started_monotonic + 0.5, "limit")
    run.warning = "careful"
    run.finish("succeeded", recording.clock)
    recording.recorder.record(run)
    await recording.recorder.write_pending()
    [found] = await listed(recording.store, RunFilter(None))
    assert {
        "metadata": {},
        "warning": "careful",
        "api": "promptlayer",
        "version": 3,
        "waits": {"limit": 0.5},
    } == orjson.loads(found.details or b"")
    timeline = await recording.store.get_timeline(run.id)
    assert ["waited", "ended"] == [event["event"] for event in decode_timeline(timeline or b"")]


async def test_what_others_have_is_in_no_details() -> None:
    """The details of successes are encoded once for all that have the same facts."""
    recording = Recording()
    await recording.store.open()
    wanted: dict[str, dict[str, object]] = {}
    for number in range(200):
        team, key = ("shop", "ops", None)[number % 3], (None, "key_1")[number % 2]
        price, paid = ((None, 0), (0, 0), (10, 10), (20, 20), (10, 30), (None, 10))[number // 6 % 6]
        spec = RunSpec("one", "triage", 60.0, team=team, key_id=key)
        run = RunRecord.create(spec, "studio", recording.clock)
        run.price, run.maybe_paid = price, paid
        run.finish("succeeded", recording.clock)
        wanted[run.id] = orjson.loads(encode_record_details(run, None))
        recording.recorder.record(run)
    await recording.recorder.write_pending()
    assert [200] == recording.store.successes
    found = await listed(recording.store, RunFilter(None, limit=300))
    assert wanted == {run.id: orjson.loads(run.details or b"") for run in found}
    of_key = await listed(recording.store, RunFilter(None, team="ops", key="key_1", limit=300))
    members = {run.id for run in found if {"team": "ops", "key": "key_1"}.items() <= wanted[run.id].items()}
    assert (34, members) == (len(of_key), {run.id for run in of_key})


async def test_successes_wait_for_an_unavailable_store() -> None:
    recording = Recording()
    await recording.store.open()
    recording.store.unavailable = True
    for number in range(1_200):
        recording.end_run(tags=())
        if number % 400 == 0:
            recording.end_run()
            await recording.recorder.write_pending()
    recording.store.unavailable = False
    await recording.recorder.write_pending()
    await recording.recorder.write_pending()
    assert (1_200, [3], 0) == (sum(recording.store.successes), recording.store.groups, recording.dropped)
    assert max(recording.store.successes) <= 500


async def test_successes_beyond_the_bound_are_dropped_and_counted() -> None:
    recording = Recording()
    await recording.store.open()
    recording.store.unavailable = True
    for _ in range(history._MAX_PENDING + 3):
        recording.end_run(tags=())
    assert 3 == recording.dropped
    await recording.recorder.close()
    assert history._MAX_PENDING + 3 == recording.dropped
    recording.store.unavailable = False
    recording.end_run(tags=())
    await recording.recorder.close()
    assert ([1], history._MAX_PENDING + 3) == (recording.store.successes, recording.dropped)


@pytest.mark.parametrize("waited", [False, True])
async def test_a_success_with_a_defect_does_not_take_others_with_it(*, waited: bool) -> None:
    recording = Recording()
    await recording.store.open()
    for number in range(3):
        spec = RunSpec("one", "triage", 60.0)
        run = RunRecord.create(spec, "studio", recording.clock)
        if number == 1 and waited:
            run.timeline.add(0.0, "\ud800")  # a lone surrogate cannot be encoded
        elif number == 1:
            run.warning = "\ud800"
        run.finish("succeeded", recording.clock)
        recording.recorder.record(run)
    await recording.recorder.write_pending()
    await recording.recorder.write_pending()
    assert (2, 1) == (len(await listed(recording.store, RunFilter(None))), recording.dropped)


async def test_successes_that_the_store_cannot_take_do_not_keep_later_ones_from_being_written() -> None:
    recording = Recording()
    await recording.store.open()
    recording.store.defect = True
    for _ in range(501):
        recording.end_run(tags=())
    await recording.recorder.write_pending()
    assert ([1], 500) == (recording.store.successes, recording.dropped)
