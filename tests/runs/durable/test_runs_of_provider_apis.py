"""Durable runs of the providers' APIs: used ids, callback bodies, and a start after the response."""

from __future__ import annotations

import json
from datetime import datetime
from typing import cast

import pytest

from gateway.api.promptlayer.runs import ResponseSent
from gateway.errors import RunError
from gateway.runs.durable.runs import RunIdTaken
from gateway.runs.model import RunRecord, RunSpec
from gateway.store.contract import Phase
from tests.api.promptlayer.test_response_sent import FrozenClock
from tests.runs.durable.durable_harness import KEY, DurableRunsHarness, yield_to_loop, yield_until
from tests.runs.executor_harness import DONE, upstream_of

CALLBACK_URL = "https://example.com/hook"


async def test_a_run_is_not_sent_before_its_response_was_sent() -> None:
    replica = await DurableRunsHarness().open()
    workflow = replica.harness.studio(DONE)
    run, response_sent = replica.new_run(workflow, synchronous=False), ResponseSent(FrozenClock())
    await replica.persist(run, None, callback_url=None)
    replica.runs.run_in_background(replica.durable[run.id], workflow, after=response_sent.wait)
    await yield_to_loop()
    stored = await replica.store.get_run(run.id)
    assert stored is not None
    assert (Phase.QUEUED, 0, True) == (stored.phase, upstream_of(workflow).starts, replica.runs.owns(run.id))
    response_sent.mark_sent()
    await yield_until(lambda: run.status == "succeeded")
    await yield_to_loop()
    assert (1, False) == (upstream_of(workflow).starts, replica.runs.owns(run.id))


async def test_a_run_whose_response_was_not_sent_is_left_to_the_next_process() -> None:
    replica = await DurableRunsHarness().open()
    workflow = replica.harness.studio(DONE)
    run = replica.new_run(workflow, synchronous=False)
    await replica.persist(run, None, callback_url=None)
    replica.runs.run_in_background(replica.durable[run.id], workflow, after=ResponseSent(FrozenClock()).wait)
    await yield_to_loop()
    await replica.runs.drain()
    assert (0, "queued") == (upstream_of(workflow).starts, await replica.stored_status(run))


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
    assert body.items() <= json.loads(delivery.body).items()


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
