"""Results of PromptLayer's API that no client collected: counted after five minutes, and never where one did."""

from __future__ import annotations

from dataclasses import replace

import pytest
import structlog
from structlog.testing import LogCapture

from gateway.api.promptlayer.result_formats import client_context
from gateway.runs.durable import uncollected_results
from gateway.runs.durable.codec import encode_run
from gateway.runs.durable.uncollected_results import COLLECTION_TIME, CollectionWatch
from gateway.runs.model import ApiName, RunRecord, RunSpec
from gateway.store.contract import StoreUnavailable
from gateway.store.memory.store import MemoryStore
from gateway.store.records import StoredRun
from tests.support.clock import ManualClock

CONTEXT = client_context(787, all_outputs=False)


class SharedStore(MemoryStore):
    """Store of several replicas, as far as marks go."""

    shared = True

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(clock)
        self.marks: set[str] = set()
        self.fails = False

    async def mark_collected(self, run_id: str) -> bool:
        """See `Store.mark_collected`."""
        if self.fails:
            raise StoreUnavailable
        first = run_id not in self.marks
        self.marks.add(run_id)
        return first


class Replica:
    """Watch of one replica, with what it reports."""

    def __init__(self, clock: ManualClock, store: MemoryStore | None = None) -> None:
        self.clock = clock
        self.reported: list[str] = []
        self.captured = LogCapture()
        log = structlog.wrap_logger(None, processors=[self.captured])
        self.watch = CollectionWatch(store or MemoryStore(clock), clock, log, self.reported.append)

    def end_run(
        self, api: ApiName = "promptlayer", *, callback_url: str | None = None, ending: str = "succeeded"
    ) -> StoredRun:
        """End a run here."""
        spec = RunSpec("one", "w", 60, api=api, client_context=CONTEXT if api == "promptlayer" else {})
        record = RunRecord.create(spec, "layer", self.clock)
        record.finish(ending, self.clock)  # type: ignore[arg-type]  # a text of the parameters
        stored = encode_run(record, owner="me", leased_until_at=0, callback_url=callback_url)
        self.watch.run_ended(record, stored)
        return replace(stored, document=b"{}")

    async def report_after(self, seconds: float) -> int:
        """Let time pass; return the number of reports so far."""
        self.clock.advance(seconds)
        await self.watch.report_due()
        return len(self.reported)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.mark.parametrize("ending", ["succeeded", "failed", "unknown"])
async def test_a_result_that_no_client_fetched_is_reported_once(clock: ManualClock, ending: str) -> None:
    replica = Replica(clock)
    run = replica.end_run(ending=ending)
    assert [0, 1, 1] == [await replica.report_after(seconds) for seconds in (COLLECTION_TIME - 1, 1, COLLECTION_TIME)]
    assert ["layer"] == replica.reported
    [entry] = replica.captured.entries
    assert {
        "event": "result_not_collected", "log_level": "warning", "run_id": run.id, "client": "one", "workflow": "w",
        "provider": "layer", "outcome": ending,
    } == entry  # fmt: skip


async def test_a_collected_result_is_not_reported(clock: ManualClock) -> None:
    replica = Replica(clock)
    await replica.watch.result_collected(replica.end_run().id)
    assert 0 == await replica.report_after(COLLECTION_TIME)


async def test_other_runs_are_not_watched(clock: ManualClock) -> None:
    """Runs of the other APIs, runs with a callback, and runs that were not started."""
    replica = Replica(clock)
    replica.end_run("run")
    replica.end_run("prompt_studio")
    replica.end_run(callback_url="https://example.com")
    replica.end_run(ending="not_run")
    assert 0 == await replica.report_after(COLLECTION_TIME)


async def test_a_result_that_another_replica_handed_out_is_not_reported(clock: ManualClock) -> None:
    store = SharedStore(clock)
    one, other = Replica(clock, store), Replica(clock, store)
    collected, missed = one.end_run(), one.end_run()
    await other.watch.result_collected(collected.id)
    assert (1, 0) == (await one.report_after(COLLECTION_TIME), await other.report_after(0))
    assert missed.id == one.captured.entries[0]["run_id"]


async def test_a_run_that_ended_at_two_replicas_is_reported_once(clock: ManualClock) -> None:
    """It was adopted; the result of its owner replaced the end `unknown`."""
    store = SharedStore(clock)
    one, other = Replica(clock, store), Replica(clock, store)
    one.end_run()
    other.watch._waiting.update(one.watch._waiting)
    assert 1 == await one.report_after(COLLECTION_TIME) + await other.report_after(0)


async def test_without_the_shared_store_nothing_is_claimed(clock: ManualClock) -> None:
    """It is reported once the store is back."""
    store = SharedStore(clock)
    replica = Replica(clock, store)
    run = replica.end_run()
    store.fails = True
    assert 0 == await replica.report_after(COLLECTION_TIME)
    await Replica(clock, store).watch.result_collected(run.id)  # the result is returned all the same
    store.fails = False
    assert 1 == await replica.report_after(0)


async def test_the_watched_runs_are_bounded(clock: ManualClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest are dropped, and not reported."""
    monkeypatch.setattr(uncollected_results, "_MAX_WATCHED", 2)
    replica = Replica(clock)
    runs = [replica.end_run() for _ in range(3)]
    assert 2 == await replica.report_after(COLLECTION_TIME)
    assert [run.id for run in runs[1:]] == [entry["run_id"] for entry in replica.captured.entries]
