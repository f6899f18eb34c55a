"""Cancellation of durable runs: what was not started never is, and ends once, whatever its owner does meanwhile."""

from __future__ import annotations

import asyncio
import json

import pytest

from gateway.errors import RunCancelled, RunError, RunNotFound
from gateway.limits.config import LimitsConfig, ResourceLimitsConfig
from gateway.runs.durable.codec import is_cancelled
from gateway.runs.model import RunRecord
from gateway.store.contract import StoreUnavailable
from gateway.store.records import Phase, RunOverview, StoredResponse
from providers.contract import Reply
from tests.runs.durable.durable_harness import KEY, LEASE, BlockedUpstream, DurableRunsHarness
from tests.runs.executor_harness import DONE, ENDED, STARTED, ScriptedUpstream
from tests.support.virtual_clock import VirtualClock, run_ready_tasks

CALLBACK_URL = "https://hooks.example.com/here"


class Replica(DurableRunsHarness):
    """Replica with one slot at the provider `layer`, which a run without an end occupies."""

    def __init__(self, owner: str = "me", *, predecessor: DurableRunsHarness | None = None) -> None:
        super().__init__(owner, predecessor=predecessor, clock=VirtualClock())
        assert isinstance(self.clock, VirtualClock)
        self.virtual_clock = self.clock
        one_slot = {"layer": ResourceLimitsConfig(concurrency=1)}
        self.harness.limiter.reconfigure(LimitsConfig({}, {}, one_slot))
        self.blocked = BlockedUpstream(self.clock, STARTED, ENDED, STARTED, ENDED)
        self.workflow = self.add_workflow(self.harness.layer(), self.blocked)

    async def occupy(self) -> RunRecord:
        """Start a run that occupies the slot."""
        run = await self.run_in_background(self.workflow)
        await run_ready_tasks()
        return run

    async def queue(self) -> RunRecord:
        """Start a run in the background that waits for the slot."""
        run = self.new_run(self.workflow, synchronous=False)
        self.runs.run_in_background(await self.persist(run, callback_url=CALLBACK_URL), self.workflow)
        await run_ready_tasks()
        return run

    async def cancel(self, run: RunRecord) -> RunOverview:
        """Cancel a run for its client."""
        return await self.cancellation.cancel("one", run.id)

    def counted(self) -> dict[str, float]:
        """Return the number of runs that the metrics have, by outcome."""
        return {
            outcome: count
            for outcome in ("succeeded", "failed", "not_run", "unknown")
            if (count := self.harness.metric_value("runward_runs_total", outcome=outcome))
        }


async def _replica() -> Replica:
    replica = Replica()
    await replica.open()
    return replica


async def _error_of(replica: Replica, run: RunRecord) -> tuple[str, str | None]:
    """Return the status and the error code in the document of a run."""
    document = await replica.store.get_document(run.id)
    assert document is not None
    members = json.loads(document)
    return members["status"], members.get("error", {}).get("code")


async def test_a_run_that_waits_for_a_limit_is_cancelled() -> None:
    """Its place is free at once, it counts once, and its callback is due."""
    replica = await _replica()
    await replica.occupy()
    run, next_run = await replica.queue(), await replica.queue()
    assert is_cancelled(await replica.cancel(run))
    await run_ready_tasks()
    assert ("not_run", "cancelled") == await _error_of(replica, run)
    assert ({"not_run": 1}, False, True) == (
        replica.counted(),
        replica.runs.owns(run.id),
        replica.runs.owns(next_run.id),
    )
    due = await replica.store.take_due_callbacks(now_at=1e12, until_at=2e12, limit=9)
    assert [run.id] == [each.run_id for each in due]
    replica.blocked.unblocked.set()
    await replica.virtual_clock.run_for(30)
    assert (2, {"not_run": 1, "succeeded": 2}) == (replica.blocked.starts, replica.counted())
    assert [run.id] == [e["run_id"] for e in replica.log.entries if e.get("outcome") == "not_run"]


async def test_a_cancelled_run_stays_cancelled() -> None:
    """Each request gets the same run."""
    replica = await _replica()
    await replica.occupy()
    run = await replica.queue()
    first = await replica.cancel(run)
    assert [first, first] == [await replica.cancel(run), await replica.cancel(run)]
    assert {"not_run": 1} == replica.counted()


async def test_a_run_that_waits_for_a_retry_is_cancelled() -> None:
    """The provider refused its only start."""
    replica = await _replica()
    upstream = ScriptedUpstream(replica.clock, (Reply(429, retry_after=9.0), STARTED))
    run = await replica.run_in_background(replica.add_workflow(replica.harness.layer(alias="other"), upstream))
    await run_ready_tasks()
    assert 1 == upstream.starts
    ended = await replica.cancel(run)
    await replica.virtual_clock.run_for(30)
    assert (True, 1, 1, {"not_run": 1}) == (is_cancelled(ended), ended.attempts, upstream.starts, replica.counted())


async def test_a_client_that_waits_is_told() -> None:
    """Its key keeps the problem, and is not free."""
    replica = await _replica()
    await replica.occupy()
    run = replica.new_run(replica.workflow)
    waiting = asyncio.create_task(replica.run_and_wait(replica.workflow, run, KEY))
    await run_ready_tasks()
    await replica.cancel(run)
    error = await waiting
    assert isinstance(error, RunCancelled)
    assert ("not_run", run.id, 0) == (error.ending, error.run and error.run.run_id, error.run and error.run.attempts)
    record = await replica.idempotency_record()
    assert record is not None
    assert record.response is not None
    problem = json.loads(record.response.body)
    assert (409, "cancelled", "not_run", run.id) == (
        record.response.status,
        problem["code"],
        problem["outcome"],
        problem["run_id"],
    )
    assert ({"not_run": 1}, False) == (replica.counted(), replica.runs.owns(run.id))


async def test_an_owner_that_is_not_told_cannot_start_the_run() -> None:
    """Another replica has cancelled it: no start, no second end, and its client is told."""
    replica = await _replica()
    holder = await replica.occupy()
    background = await replica.queue()
    waited = replica.new_run(replica.workflow)
    waiting = asyncio.create_task(replica.run_and_wait(replica.workflow, waited, KEY))
    await run_ready_tasks()
    other = Replica("other", predecessor=replica)
    for run in (background, waited):
        assert is_cancelled(await other.cancel(run))
    assert replica.runs.owns(background.id)
    replica.blocked.unblocked.set()
    await replica.virtual_clock.run_for(30)
    error = await waiting
    assert isinstance(error, RunCancelled)
    assert ("not_run", 1, "succeeded") == (error.ending, replica.blocked.starts, await replica.stored_status(holder))
    assert ({"succeeded": 1}, {"not_run": 2}) == (replica.counted(), other.counted())
    assert not [entry for entry in replica.log.entries if entry["event"] == "lease_lost"]
    assert 0 == len(replica.runs.active)


async def test_an_owner_that_is_told_stops_at_once() -> None:
    replica = await _replica()
    await replica.occupy()
    run, kept = await replica.queue(), await replica.queue()
    await Replica("other", predecessor=replica).cancel(run)
    await replica.cancellation.stop_cancelled()
    await run_ready_tasks()
    assert (False, True) == (replica.runs.owns(run.id), replica.runs.owns(kept.id))


async def test_a_run_that_was_started_is_followed_to_its_end() -> None:
    replica = await _replica()
    run = await replica.occupy()
    found = [await replica.cancel(run), await replica.cancel(run)]
    assert [Phase.SENDING] * 2 == [each.phase for each in found]
    replica.blocked.unblocked.set()
    await replica.virtual_clock.run_for(30)
    assert ("succeeded", None) == await _error_of(replica, run)
    assert {"succeeded": 1} == replica.counted()
    ended = await replica.cancel(run)
    assert (Phase.DONE, "succeeded", False) == (ended.phase, ended.status, is_cancelled(ended))


@pytest.mark.parametrize("synchronous", [True, False])
@pytest.mark.parametrize("told_by_another", [True, False])
async def test_a_start_that_is_refused_after_the_request_is_the_last_one(
    *, synchronous: bool, told_by_another: bool
) -> None:
    """The client asked while the start was being sent; without the request, the run would be started again."""
    replica = await _replica()
    replica.blocked.script = (Reply(429), STARTED, ENDED)
    run = replica.new_run(replica.workflow, synchronous=synchronous)
    execute = replica.run_and_wait if synchronous else replica.run_in_background
    executing = asyncio.create_task(execute(replica.workflow, run, KEY))
    await run_ready_tasks()
    canceller = Replica("other", predecessor=replica) if told_by_another else replica
    replica.store.shared = True  # notifications are sent
    assert Phase.SENDING is (await canceller.cancel(run)).phase
    await replica.cancellation.stop_cancelled()
    replica.blocked.unblocked.set()
    await replica.virtual_clock.run_for(30)
    assert (("not_run", "cancelled"), 1) == (await _error_of(replica, run), replica.blocked.starts)
    assert {"not_run": 1} == replica.counted()
    assert is_cancelled(await replica.cancel(run))
    if synchronous:
        answer, record = await executing, await replica.idempotency_record()
        assert isinstance(answer, StoredResponse)
        assert record is not None
        assert answer == record.response


@pytest.mark.parametrize("synchronous", [True, False])
@pytest.mark.parametrize("early", [True, False])
async def test_no_start_follows_a_request_although_the_refusal_was_not_stored(
    *, synchronous: bool, early: bool
) -> None:
    """The store has the run as being sent, since it failed; the client asks before or after the refusal."""
    replica = await _replica()
    replica.blocked.script = (Reply(429, retry_after=9.0), STARTED, ENDED)
    replica.store.fail_before.add("revert_to_queued")
    run = replica.new_run(replica.workflow, synchronous=synchronous)
    execute = replica.run_and_wait if synchronous else replica.run_in_background
    executing = asyncio.create_task(execute(replica.workflow, run, KEY))
    await run_ready_tasks()
    if early:
        await replica.cancel(run)
    replica.blocked.unblocked.set()
    await run_ready_tasks()
    if not early:
        assert Phase.SENDING is (await replica.cancel(run)).phase
    await replica.virtual_clock.run_for(30)
    await executing
    assert (("not_run", "cancelled"), 1) == (await _error_of(replica, run), replica.blocked.starts)
    assert {"not_run": 1} == replica.counted()


async def test_a_crash_after_the_cancellation_starts_nothing() -> None:
    """The process that adopts the runs of the crashed one does not find it."""
    crashed = await _replica()
    await crashed.occupy()
    run = await crashed.queue()
    canceller = Replica("canceller", predecessor=crashed)
    await canceller.cancel(run)
    crashed.clock.advance(LEASE + 1)
    successor = Replica("successor", predecessor=crashed)
    successor.blocked.unblocked.set()
    await successor.recovery.adopt_expired_runs()
    await successor.virtual_clock.run_for(30)
    assert (0, ("not_run", "cancelled")) == (successor.blocked.starts, await _error_of(crashed, run))


@pytest.mark.parametrize("moment", ["fail_before", "fail_after"])
async def test_a_failing_store_leaves_the_decision_to_the_next_request(moment: str) -> None:
    """Whether the first one was stored or not, the second one ends the work on the run."""
    replica = await _replica()
    await replica.occupy()
    run = await replica.queue()
    failing: set[str] = getattr(replica.store, moment)
    failing.add("cancel_queued")
    with pytest.raises(StoreUnavailable):
        await replica.cancel(run)
    assert replica.runs.owns(run.id)
    failing.clear()
    assert is_cancelled(await replica.cancel(run))
    await run_ready_tasks()
    assert (False, ("not_run", "cancelled")) == (replica.runs.owns(run.id), await _error_of(replica, run))


async def test_a_client_cannot_cancel_the_runs_of_others() -> None:
    replica = await _replica()
    await replica.occupy()
    run = await replica.queue()
    for client, run_id in (("two", run.id), ("one", "run_0"), ("one", "")):
        with pytest.raises(RunNotFound):
            await replica.cancellation.cancel(client, run_id)
    assert "queued" == await replica.stored_status(run)


async def test_a_run_that_another_version_wrote_is_cancelled() -> None:
    """It could not be decoded; its metrics name no workflow that the configuration lacks."""
    replica = await _replica()
    run = replica.new_run(replica.workflow, synchronous=False)
    durable = await replica.persist(run)
    stored = await replica.store.get_run(durable.record.id)
    assert stored is not None
    stored.order, stored.workflow = b'{"later": 1}', "gone"
    assert is_cancelled(await replica.cancel(run))
    assert 1 == replica.harness.metric_value("runward_runs_total", outcome="not_run", workflow="(gone)")


async def test_a_run_that_was_refused_before_is_gone() -> None:
    """The run of a waiting client that ended as `not_run` is deleted: there is nothing to cancel."""
    replica = await _replica()
    run = replica.new_run(replica.workflow)
    replica.blocked.script = (Reply(422),)
    replica.blocked.unblocked.set()
    assert isinstance(await replica.run_and_wait(replica.workflow, run), RunError)
    with pytest.raises(RunNotFound):
        await replica.cancel(run)


async def test_a_queued_run_is_cancelled_before_its_task_begins() -> None:
    replica = await _replica()
    upstream = ScriptedUpstream(replica.clock, (DONE,))
    run = await replica.run_in_background(replica.add_workflow(replica.harness.studio(), upstream))
    assert is_cancelled(await replica.cancel(run))
    await run_ready_tasks()
    assert (0, {"not_run": 1}, 0) == (upstream.starts, replica.counted(), len(replica.runs.active))
