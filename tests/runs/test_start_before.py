"""`start_before`: a run of which no start was sent by then is never started; one that was started is followed."""

from __future__ import annotations

import asyncio
import json

import pytest

from gateway.errors import StartExpired
from gateway.limits.config import ClientLimitsConfig, ResourceLimitsConfig
from gateway.runs.catalog import Provider, Workflow
from gateway.runs.durable.codec import decode_run, encode_run
from gateway.runs.model import NullJournal, RunRecord, RunSpec
from gateway.runs.resilience.retry import RetryPolicy
from providers.contract import Cause, Reply
from providers.prompt_studio import PromptStudio
from tests.runs.durable.durable_harness import LEASE, BlockedUpstream, DurableRunsHarness
from tests.runs.executor_harness import DONE, ENDED, STARTED, ExecutorHarness, ScriptedUpstream, fault, upstream_of
from tests.support.clock import ManualClock
from tests.support.virtual_clock import VirtualClock, run_ready_tasks

LONG_BACKOFF = RetryPolicy(3, 20.0, 20.0)


def _run(clock: ManualClock, start_before: float, *, synchronous: bool = True) -> RunRecord:
    """Return a run that must be started within `start_before` seconds."""
    start_at = clock.now().timestamp() + start_before
    spec = RunSpec("one", "w", timeout=60.0, start_before=start_at, synchronous=synchronous)
    return RunRecord.create(spec, "", clock)


@pytest.mark.parametrize("synchronous", [True, False])
async def test_a_run_that_waits_for_a_limit_expires_in_time(*, synchronous: bool) -> None:
    """It leaves the queue at that moment, and nothing was sent."""
    clock = VirtualClock()
    limits = {"studio": ResourceLimitsConfig(concurrency=1, max_wait=50.0)}
    harness = ExecutorHarness(clock=clock, providers=limits)
    blocked = BlockedUpstream(clock, DONE)
    occupied = Workflow(alias="other", name="n", provider=Provider("studio", PromptStudio(), blocked))
    holder = asyncio.create_task(harness.run(occupied))
    await run_ready_tasks()
    workflow = harness.studio(DONE)
    record = _run(clock, 5.0, synchronous=synchronous)
    waiting = asyncio.create_task(harness.run(workflow, record))
    await clock.run_for(4.9)
    assert not waiting.done()
    await clock.run_for(0.2)
    _, error = waiting.result()
    assert isinstance(error, StartExpired)
    assert ("not_run", "not_run", 0, 5.0) == (
        error.ending,
        record.status,
        upstream_of(workflow).starts,
        round(record.duration, 6),
    )
    blocked.unblocked.set()
    assert "succeeded" == (await clock.run_until_done(holder))[0].status
    assert 1 == harness.metric_value("runward_runs_total", outcome="not_run")


async def test_a_run_that_waits_for_a_retry_expires_in_time() -> None:
    """The provider refused its first start."""
    clock = VirtualClock()
    harness = ExecutorHarness(clock=clock, retry_policy=LONG_BACKOFF)
    workflow = harness.studio(fault(Cause.UNREACHABLE), DONE)
    record = _run(clock, 1e-3)
    _, error = await clock.run_until_done(harness.run(workflow, record))
    assert ("expired", "not_run", 1) == (error and error.code, record.status, upstream_of(workflow).starts)
    assert 1 == record.attempts


async def test_a_start_that_is_refused_after_the_time_is_the_last_one() -> None:
    """It was sent in time, so the client reads what the provider said; neither a retry nor a fallback follows."""
    harness = ExecutorHarness()
    fallback = harness.layer(STARTED, ENDED)

    def late() -> Reply:
        harness.clock.advance(10.0)
        return Reply(429)

    workflow = harness.studio(late, DONE, fallbacks=(fallback,))
    record, error = await harness.run(workflow, _run(harness.clock, 5.0))
    assert ("upstream_throttled", "not_run") == (error and error.code, record.status)
    assert (1, 0) == (upstream_of(workflow).starts, upstream_of(fallback).starts)


async def test_a_run_that_was_started_in_time_goes_on() -> None:
    clock = VirtualClock()
    harness = ExecutorHarness(clock=clock)
    workflow = harness.layer(STARTED, Reply(202), Reply(202), ENDED)
    record, error = await clock.run_until_done(harness.run(workflow, _run(clock, 0.1)))
    assert (None, "succeeded", 1) == (error, record.status, upstream_of(workflow).starts)


async def test_a_run_whose_time_has_passed_is_not_tried() -> None:
    harness = ExecutorHarness()
    workflow = harness.studio(DONE)
    _, error = await harness.run(workflow, _run(harness.clock, -1.0))
    assert ("expired", 0) == (error and error.code, upstream_of(workflow).starts)


async def test_a_time_that_passes_while_the_dispatch_is_written_is_too_late() -> None:
    """The store may take long."""

    class SlowJournal(NullJournal):
        async def record_dispatch(self) -> None:
            harness.clock.advance(6.0)

    harness = ExecutorHarness()
    workflow, record = harness.studio(DONE), _run(harness.clock, 5.0)
    with pytest.raises(StartExpired):
        await harness.executor.run(record, workflow, SlowJournal())
    assert ("not_run", 0) == (record.status, upstream_of(workflow).starts)


async def test_a_time_after_the_deadline_has_no_effect() -> None:
    harness = ExecutorHarness()
    record, error = await harness.run(harness.studio(DONE), _run(harness.clock, 61.0))
    assert (None, "succeeded") == (error, record.status)


async def test_a_durable_run_expires_with_its_end_in_the_store() -> None:
    """An accepted run: its status, its document and its callback."""
    replica = await DurableRunsHarness(clock=VirtualClock()).open()
    run = replica.new_run(
        replica.harness.studio(DONE), synchronous=False, start_before=replica.clock.now().timestamp() - 1
    )
    workflow = replica.harness.studio(DONE)
    replica.runs.run_in_background(await replica.persist(run, callback_url="https://hooks.example.com/"), workflow)
    await run_ready_tasks()
    document = json.loads(await replica.store.get_document(run.id) or b"")
    assert ("not_run", "expired", 0) == (document["status"], document["error"]["code"], upstream_of(workflow).starts)
    due = await replica.store.take_due_callbacks(now_at=1e12, until_at=2e12, limit=9)
    assert [run.id] == [each.run_id for each in due]


async def test_the_time_survives_the_process() -> None:
    """Another process adopts the queued run after that time, and does not start it."""
    crashed = await DurableRunsHarness("crashed", clock=VirtualClock()).open()
    start_before = crashed.clock.now().timestamp() + LEASE
    run = crashed.new_run(crashed.harness.layer(), synchronous=False, start_before=start_before)
    await crashed.persist(run)
    crashed.clock.advance(LEASE + 1)
    successor = DurableRunsHarness("successor", predecessor=crashed)
    upstream = ScriptedUpstream(successor.clock, (STARTED, ENDED))
    successor.add_workflow(successor.harness.layer(), upstream)
    await successor.recovery.adopt_expired_runs()
    await run_ready_tasks()
    assert ("not_run", 0) == (await successor.stored_status(run), upstream.starts)


def test_the_order_has_the_time_only_if_there_is_one() -> None:
    """Earlier versions can read the others."""
    clock = ManualClock()
    for record in (_run(clock, 5.0), RunRecord.create(RunSpec("one", "w", timeout=60.0), "", clock)):
        stored = encode_run(record, owner="me", leased_until_at=0.0, callback_url=None)
        assert (record.spec.start_before is not None) == ("start_before" in json.loads(stored.order))
        decoded = decode_run(stored, clock)
        assert record.spec.start_before == decoded.spec.start_before
        assert record.start_by == pytest.approx(decoded.start_by)


async def test_a_run_that_expires_while_the_store_is_slow_charges_nothing() -> None:
    """Nothing was sent: the daily quota has its request again."""
    clock = VirtualClock()
    harness = ExecutorHarness(clock=clock, client=ClientLimitsConfig(daily=1))

    class SlowJournal(NullJournal):
        async def record_dispatch(self) -> None:
            await clock.sleep(20.0)

    workflow = harness.studio(DONE)
    record = _run(clock, 5.0)
    running = asyncio.create_task(harness.executor.run(record, workflow, SlowJournal()))
    with pytest.raises(StartExpired):
        await clock.run_until_done(running)
    assert 0 == upstream_of(workflow).starts
    assert "succeeded" == (await harness.run(workflow))[0].status  # it takes the only request of the day
