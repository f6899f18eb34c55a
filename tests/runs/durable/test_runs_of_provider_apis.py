"""Durable runs of the providers' APIs: used ids, callback bodies, and responses that wait for the start."""

from __future__ import annotations

import asyncio
import json
from datetime import datetime
from typing import cast

import pytest

from gateway.errors import RunError
from gateway.runs.durable.creation import RunIdTaken
from gateway.runs.durable.start_response_gate import StartGate
from gateway.runs.model import RunRecord, RunSpec
from providers.contract import Cause, Reply
from tests.runs.durable.durable_harness import (
    KEY,
    BlockedUpstream,
    DurableRunsHarness,
    FrozenClock,
    yield_to_loop,
    yield_until,
)
from tests.runs.executor_harness import DONE, STARTED, ScriptStep, fault, upstream_of

CALLBACK_URL = "https://example.com/hook"


async def test_the_end_of_a_run_is_stored_after_its_response_was_sent() -> None:
    """A push on a channel, or a callback, cannot precede the response that names the run."""
    replica = await DurableRunsHarness().open()
    workflow = replica.harness.studio(DONE)
    run, gate = replica.new_run(workflow, synchronous=False), StartGate(FrozenClock())
    await replica.persist(run, None, callback_url=None)
    replica.runs.run_in_background(replica.durable[run.id], workflow, gate=gate)
    assert None is await gate.wait_for_decision(4)
    await yield_to_loop()
    assert ("succeeded", "running", 1) == (run.status, await replica.stored_status(run), upstream_of(workflow).starts)
    gate.mark_sent()
    await yield_to_loop()
    assert ("succeeded", False) == (await replica.stored_status(run), replica.runs.owns(run.id))


async def test_an_end_is_stored_although_the_process_ends_before_the_response_was_sent() -> None:
    replica = await DurableRunsHarness().open()
    workflow = replica.harness.studio(DONE)
    run, gate = replica.new_run(workflow, synchronous=False), StartGate(FrozenClock())
    await replica.persist(run, None, callback_url=None)
    replica.runs.run_in_background(replica.durable[run.id], workflow, gate=gate)
    await gate.wait_for_decision(4)
    await replica.runs.close()
    assert "succeeded" == await replica.stored_status(run)


async def test_an_acknowledged_start_is_accepted_while_the_run_goes_on() -> None:
    replica = await DurableRunsHarness().open()
    upstream = BlockedUpstream(replica.clock, STARTED)
    workflow = replica.add_workflow(replica.harness.layer(), upstream)
    run, gate = replica.new_run(workflow, synchronous=False), StartGate(FrozenClock())
    await replica.persist(run, None, callback_url=None)
    replica.runs.run_in_background(replica.durable[run.id], workflow, gate=gate)
    waiting = asyncio.create_task(gate.wait_for_decision(4))
    await yield_until(lambda: len(upstream.sent) == 1)
    await yield_to_loop()
    assert not waiting.done()
    upstream.unblocked.set()
    assert None is await waiting
    gate.mark_sent()
    await replica.runs.close()


@pytest.mark.parametrize(
    ("step", "ending", "kept"),
    [
        (fault(Cause.REJECTED), "not_run", None),
        (fault(Cause.DISCONNECTED), "unknown", "unknown"),
        (Reply(500), None, "failed"),
    ],
)
async def test_how_a_start_that_failed_is_told(step: ScriptStep, ending: str | None, kept: str | None) -> None:
    """What ran is accepted; what was not run is refused and deleted; what is not known is refused and kept."""
    replica = await DurableRunsHarness().open()
    workflow = replica.harness.studio(step)
    run, gate = replica.new_run(workflow, synchronous=False), StartGate(FrozenClock())
    await replica.persist(run, KEY, callback_url=None)
    replica.runs.run_in_background(replica.durable[run.id], workflow, gate=gate)
    error = await gate.wait_for_decision(4)
    gate.mark_sent()
    await yield_to_loop()
    assert (ending, kept) == (error and error.ending, await replica.stored_status(run))
    claim = await replica.idempotency_record()
    assert (claim is None, False) == (kept is None, replica.runs.owns(run.id))


async def test_a_refusal_is_not_told_before_the_store_has_deleted_the_run() -> None:
    """A process that adopts the run would start it, and the client would have been told to send it again."""
    replica = await DurableRunsHarness().open()
    workflow = replica.harness.studio(fault(Cause.REJECTED))
    run, gate = replica.new_run(workflow, synchronous=False), StartGate(FrozenClock())
    await replica.persist(run, None, callback_url=None)
    replica.store.fail_before = {"discard_run"}
    replica.runs.run_in_background(replica.durable[run.id], workflow, gate=gate)
    error = await gate.wait_for_decision(4)
    assert error is not None
    assert ("store_unavailable", "unknown") == (error.code, error.ending)
    replica.store.fail_before = set()
    await yield_to_loop(200)
    assert None is await replica.stored_status(run)


async def test_a_run_whose_process_ends_first_is_accepted_and_left_to_the_next() -> None:
    replica = await DurableRunsHarness().open()
    upstream = BlockedUpstream(replica.clock)
    workflow = replica.add_workflow(replica.harness.layer(), upstream)
    run, gate = replica.new_run(workflow, synchronous=False), StartGate(FrozenClock())
    await replica.persist(run, None, callback_url=None)
    replica.runs.run_in_background(replica.durable[run.id], workflow, gate=gate)
    waiting = asyncio.create_task(gate.wait_for_decision(4))
    await replica.runs.drain()
    assert None is await waiting
    assert (0, "queued") == (len(upstream.sent), await replica.stored_status(run))


def render_own_callback(spec: RunSpec, document: bytes, _finished_at: datetime) -> bytes:
    return b'{"number":%d,"status":"%b"}' % (
        cast("int", spec.client_context["number"]),
        json.loads(document)["status"].encode(),
    )


@pytest.mark.parametrize(
    ("api", "body"), [("promptlayer", {"number": 7, "status": "succeeded"}), ("run", {"type": "run.finished"})]
)
async def test_a_callback_has_the_format_of_the_api_of_its_client(api: str, body: dict[str, object]) -> None:
    replica = await DurableRunsHarness(callback_renderers={"promptlayer": render_own_callback}).open()
    workflow = replica.harness.studio(DONE)
    run = replica.new_run(workflow, synchronous=False, api=api, client_context={"number": 7})
    await replica.persist(run, None, callback_url=CALLBACK_URL)
    replica.runs.run_in_background(replica.durable[run.id], workflow)
    await yield_until(lambda: run.status == "succeeded")
    await yield_to_loop()
    now = replica.clock.now().timestamp()
    [delivery] = await replica.store.take_due_callbacks(now_at=now, until_at=now + 1, limit=9)
    sent = await replica.store.load_callback(delivery, until_at=now + 2)
    assert body.items() <= json.loads(sent or b"").items()


def same_request(replica: DurableRunsHarness, run: RunRecord) -> RunRecord:
    """Return a repeated request: a run with the same id."""
    return RunRecord.create(run.spec, run.provider, replica.clock, id=run.id)


async def test_a_used_run_id_is_refused_and_nothing_changes() -> None:
    replica = await DurableRunsHarness().open()
    run = await replica.run_in_background(replica.harness.studio(DONE))
    with pytest.raises(RunIdTaken):
        await replica.runs.persist(same_request(replica, run), None, callback_url=None)
    await yield_until(lambda: run.status == "succeeded")


async def test_a_run_with_a_pending_delete_is_not_accepted_again() -> None:
    """The first request was refused and may be stored: its delete must not delete the second."""
    replica = await DurableRunsHarness().open()
    workflow = replica.harness.studio(DONE)
    run = replica.new_run(workflow, synchronous=False)
    replica.store.fail_after, replica.store.fail_before = {"create_run"}, {"discard_run"}
    for attempt in (run, same_request(replica, run)):
        with pytest.raises(RunError) as refused:
            await replica.runs.persist(attempt, None, callback_url=None)
        assert "store_unavailable" == refused.value.code
        replica.store.fail_after = set()
    replica.store.fail_before = set()
    await yield_to_loop()
    assert None is await replica.stored_status(run)
    again = await replica.run_in_background(workflow, same_request(replica, run))
    await yield_until(lambda: again.status == "succeeded")
    await yield_to_loop(200)
    assert ("succeeded", 1) == (await replica.stored_status(again), upstream_of(workflow).starts)


async def test_a_key_whose_run_has_a_pending_delete_is_not_answered_with_that_run() -> None:
    """R40: the 202 would refer to a run that is about to be deleted."""
    replica = await DurableRunsHarness().open()
    workflow = replica.harness.studio(DONE)
    replica.store.fail_after, replica.store.fail_before = {"create_run"}, {"discard_run"}
    for _ in range(2):
        with pytest.raises(RunError) as refused:
            await replica.runs.persist(replica.new_run(workflow, synchronous=False), KEY, callback_url=None)
        assert ("store_unavailable", "unknown") == (refused.value.code, refused.value.ending)
        replica.store.fail_after = set()
    replica.store.fail_before = set()
    await yield_to_loop()
    run = await replica.run_in_background(workflow, key=KEY)
    await yield_until(lambda: run.status == "succeeded")
    claim = await replica.idempotency_record()
    assert claim is not None
    assert run.id == claim.run_id
