"""Replays of runs: what they take from the run, and what makes two requests one."""

from __future__ import annotations

from dataclasses import replace

import orjson
import pytest

from gateway.auth.client import Client
from gateway.errors import IdempotencyMismatch, InputNotKept, InvalidIdempotencyKey, StoreError, WorkflowForbidden
from gateway.limits.config import ClientLimitsConfig, KeyLimits
from gateway.runs.catalog import Catalog
from gateway.runs.durable.codec import decode_spec, encode_run
from gateway.runs.durable.idempotency_key import internal_key, parse_key
from gateway.runs.idempotent_submission import Replayed, Started
from gateway.runs.run_replay import ReplayEdit, RunReplayer, replay_id
from gateway.store.records import StoredRun
from tests.runs.durable.durable_harness import DurableRunsHarness
from tests.runs.executor_harness import ENDED, STARTED, upstream_of

CLIENT = Client("one", ("*",))


async def a_replayer() -> tuple[DurableRunsHarness, RunReplayer, StoredRun]:
    """Return a replayer, and a stored run that has ended."""
    harness = await DurableRunsHarness().open()
    workflow = harness.add_workflow(harness.harness.layer(STARTED, ENDED))
    run = harness.new_run(
        workflow, input={"a": 1}, metadata={"b": "c"}, start_before=harness.clock.now().timestamp() + 5
    )
    await harness.run_and_wait(workflow, run)
    stored = await harness.store.get_run(run.id)
    assert stored is not None
    return harness, RunReplayer(harness.runs, Catalog(harness.workflows, {}), harness.clock, 7 * 86400.0), stored


async def test_a_replay_has_the_specification_of_the_run() -> None:
    """Except for the client's deadline of the start, and it runs in the background."""
    _, replayer, stored = await a_replayer()
    submission, _ = await replayer.submit(stored, CLIENT, traceparent="00-a-b-01")
    assert isinstance(submission, Started)
    expected = replace(
        decode_spec(stored),
        synchronous=False,
        start_before=None,
        replay_of=stored.id,
        traceparent="00-a-b-01",
        client_connected=submission.run.record.spec.client_connected,
    )
    assert expected == submission.run.record.spec
    assert expected == replace(
        decode_spec(submission.run.stored), client_connected=submission.run.record.spec.client_connected
    )


async def test_a_replay_belongs_to_the_key_and_the_team_that_ask_for_it() -> None:
    """Its limits hold, not those of the key of the run; a replay by an operator has no key."""
    _, replayer, stored = await a_replayer()
    own_limits = ClientLimitsConfig(daily=1)
    other = replace(CLIENT, team="shop").narrowed("key_b", (), own_limits)
    order = {**orjson.loads(stored.order), "team": "old", "key_id": "key_a"}
    of_key_a = replace(stored, order=orjson.dumps(order))
    assert ("old", "key_a") == (decode_spec(of_key_a).team, decode_spec(of_key_a).key_id)
    submission, _ = await replayer.submit(of_key_a, other, key=parse_key("one", ["b"], b"{}"))
    assert isinstance(submission, Started)
    spec = submission.run.record.spec
    assert ("shop", "key_b", KeyLimits("key_b", own_limits)) == (spec.team, spec.key_id, spec.key_limits)
    by_operator, _ = await replayer.submit(of_key_a, CLIENT)
    assert isinstance(by_operator, Started)
    spec = by_operator.run.record.spec
    assert (None, None, None) == (spec.team, spec.key_id, spec.key_limits)


async def test_the_input_of_a_run_that_was_kept_after_its_deadline_is_not_known() -> None:
    """It is not taken for an empty input."""
    harness, replayer, stored = await a_replayer()
    run = harness.new_run(next(iter(harness.workflows.values())), input={"a": 1}).follow_on(60)
    followed = encode_run(run, owner="me", leased_until_at=0, callback_url=None)
    with pytest.raises(InputNotKept):
        await replayer.submit(followed, CLIENT)
    submission, _ = await replayer.submit(followed, CLIENT, ReplayEdit(input={"a": 2}))
    assert isinstance(submission, Started)
    assert ({"a": 2}, True) == (submission.run.record.spec.input, submission.run.record.spec.input_kept)
    with pytest.raises(InputNotKept):
        await replayer.submit(replace(stored, order=b'{"face":'), CLIENT)


async def test_a_client_replays_what_it_may_run_today() -> None:
    """Its scope was reduced since."""
    harness, replayer, stored = await a_replayer()
    with pytest.raises(WorkflowForbidden):
        await replayer.submit(stored, Client("one", ("other",)))
    assert len(upstream_of(next(iter(harness.workflows.values()))).sent) == 2


async def test_a_refused_replay_may_be_repeated() -> None:
    """The store does not confirm it: the error says so, and the next request starts one."""
    harness, replayer, stored = await a_replayer()
    harness.store.fail_before.add("create_run")
    with pytest.raises(StoreError):
        await replayer.submit(stored, CLIENT)
    harness.store.fail_before.clear()
    for _ in range(100):
        await harness.clock.sleep(0)
    first, _ = await replayer.submit(stored, CLIENT)
    second, _ = await replayer.submit(stored, CLIENT)
    assert isinstance(first, Started)
    assert isinstance(second, Replayed)
    assert first.run.record.id == second.stored.id


async def test_a_run_is_replayed_once_although_its_key_is_forgotten() -> None:
    """Keys are kept for a day, runs for longer: the second plan of an operator may come a week later."""
    harness, replayer, stored = await a_replayer()
    first, _ = await replayer.submit(stored, CLIENT)
    assert 2 == await harness.store.purge(runs_before_at=0, keys_before_at=harness.clock.now().timestamp() + 1)
    again, _ = await replayer.submit(stored, CLIENT)
    assert isinstance(first, Started)
    assert isinstance(again, Replayed)
    assert first.run.record.id == again.stored.id == replay_id(stored.id)
    with pytest.raises(IdempotencyMismatch):
        await replayer.submit(stored, CLIENT, ReplayEdit(input={}))


async def test_a_run_that_is_kept_for_longer_than_its_replay_is_not_replayed_again() -> None:
    """The content of a recorded run, or a run with a pending callback, may be kept for longer than replays are."""
    harness, replayer, stored = await a_replayer()
    await replayer.submit(stored, CLIENT)
    replayer.reconfigure(60.0)
    harness.clock.advance(61.0)
    with pytest.raises(InputNotKept, match="Idempotency-Key"):
        await replayer.submit(stored, CLIENT)
    again, _ = await replayer.submit(stored, CLIENT, key=parse_key("one", ["once more"], b"{}"))
    assert isinstance(again, Started)


async def test_no_client_can_use_the_key_of_a_replay() -> None:
    text = internal_key("one", "replay:run_1", b"f").text
    with pytest.raises(InvalidIdempotencyKey):
        parse_key("one", [text], b"{}")
