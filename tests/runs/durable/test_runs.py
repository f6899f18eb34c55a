"""Durable runs: nothing is sent before it is stored, and a result is returned whatever the store does."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import Any

import pytest

from gateway.errors import RunError
from gateway.http.problem_mapping import problem_from_error
from gateway.runs import rendering
from gateway.runs.durable.background_limit import BackgroundLimit
from gateway.runs.model import RunRecord
from gateway.runs.timeline import decode_timeline
from gateway.store.records import FinalState, IdempotencyKey, IdempotencyRecord, Phase, StoredResponse
from providers.contract import Cause, Reply
from tests.runs.durable.durable_harness import (
    KEY,
    LEASE,
    BlockedUpstream,
    DurableRunsHarness,
    yield_to_loop,
    yield_until,
)
from tests.runs.executor_harness import DONE, ENDED, RUNNING, STARTED, ScriptedUpstream, ScriptStep, fault, upstream_of
from tests.support.virtual_clock import VirtualClock, run_ready_tasks

# A client that waits.


@pytest.mark.parametrize(
    ("step", "status"),
    [(DONE, 200), (Reply(500), 502), (fault(Cause.DISCONNECTED), 502), (fault(Cause.TIMEOUT), 504)],
)
async def test_the_answer_of_every_dispatched_run_is_stored(step: ScriptStep, status: int) -> None:
    """R40: also for a failed run, and for one whose outcome is unknown."""
    replica = await DurableRunsHarness().open()
    answer = await replica.run_and_wait(replica.harness.studio(step))
    assert isinstance(answer, StoredResponse)
    assert status == answer.status
    claim = await replica.idempotency_record()
    assert claim is not None
    assert answer == claim.response


@pytest.mark.parametrize(
    "step", [Reply(422), Reply(401), Reply(404), Reply(429), Reply(503, retry_after=999), fault(Cause.UNREACHABLE)]
)
async def test_what_was_not_run_frees_its_key(step: ScriptStep) -> None:
    """R40: the run is deleted, and the same key starts a run."""
    replica = await DurableRunsHarness().open()
    run = replica.new_run(replica.harness.studio(step))
    problem = await replica.run_and_wait(replica.harness.studio(step), run)
    assert isinstance(problem, RunError)
    assert ("not_run", None, None) == (
        problem.ending,
        await replica.idempotency_record(),
        await replica.stored_status(run),
    )
    again = await replica.run_and_wait(replica.harness.studio(DONE))
    assert isinstance(again, StoredResponse)
    assert 200 == again.status


async def test_a_used_key_returns_its_record() -> None:
    """R39: and the second run is not stored."""
    replica = await DurableRunsHarness().open()
    workflow = replica.harness.studio(DONE)
    first, second = replica.new_run(workflow), replica.new_run(workflow)
    await replica.persist(first, KEY, callback_url=None)
    claim = await replica.runs.persist(second, replace(KEY, fingerprint=b"o" * 32), callback_url=None)
    assert isinstance(claim, IdempotencyRecord)
    assert (first.id, KEY) == (claim.run_id, claim.key)
    assert None is await replica.stored_status(second)
    assert not second.durable


# A store that fails.


@pytest.mark.parametrize("how", ["down", "lost"])
@pytest.mark.parametrize(
    ("synchronous", "key", "expected"),
    [
        (True, KEY, ("not_run", True, 1)),  # if the store has it, the process that adopts it discards it
        (False, KEY, ("unknown", True, 1)),  # another replica may start it; the same key starts no second one
        (False, None, ("unknown", False, None)),
    ],
)
async def test_without_a_store_a_run_is_refused(
    how: str,
    synchronous: bool,  # noqa: FBT001 - a value
    key: IdempotencyKey | None,
    expected: tuple[object, ...],
) -> None:
    """R54, R55: 503; a run that may have been stored is never reported as not_run."""
    replica = await DurableRunsHarness().open()
    replica.store.fail_before = {"discard_run", *({"create_run"} if how == "down" else ())}
    replica.store.fail_after = {"create_run"}
    run = replica.new_run(replica.harness.studio(DONE), synchronous=synchronous)
    with pytest.raises(RunError) as refused:
        await replica.runs.persist(run, key, callback_url=None)
    problem = problem_from_error(refused.value)
    said = json.loads(problem.document(""))
    assert (503, "store_unavailable") == (problem.status, said["code"])
    assert expected == (said["outcome"], said["retryable"], refused.value.retry_after)
    assert (run.id if key is None else None) == said.get("run_id")
    await replica.runs._pending_deletes.close()


async def test_a_run_stored_without_confirmation_is_started_by_another_replica_after_a_long_outage() -> None:
    """R45, R55: its client got `unknown`, which is correct."""
    replica = await DurableRunsHarness().open()
    workflow = replica.add_workflow(replica.harness.studio(DONE))
    replica.store.fail_after, replica.store.fail_before = {"create_run"}, {"discard_run"}
    run = replica.new_run(workflow, synchronous=False)
    with pytest.raises(RunError) as refused:
        await replica.runs.persist(run, None, callback_url=None)
    await replica.runs._pending_deletes.close()  # it is cut off from the store
    replica.clock.advance(LEASE + 1)
    other = DurableRunsHarness("other", predecessor=replica)
    other.add_workflow(workflow)
    await other.recovery.adopt_expired_runs()
    await yield_to_loop()
    assert ("unknown", "succeeded", 1) == (
        refused.value.ending, await replica.stored_status(run), upstream_of(workflow).starts
    )  # fmt: skip


async def test_a_run_stored_without_confirmation_blocks_no_key() -> None:
    """R54: its client got not_run, so the key is free once the store is available."""
    replica = await DurableRunsHarness().open()
    replica.store.fail_after, replica.store.fail_before = {"create_run"}, {"discard_run"}
    run = replica.new_run(replica.harness.studio(DONE))
    with pytest.raises(RunError):
        await replica.runs.persist(run, KEY, callback_url=None)
    await yield_to_loop()
    assert "queued" == await replica.stored_status(run)
    replica.store.fail_before = set()
    await yield_to_loop()
    assert (None, None) == (await replica.stored_status(run), await replica.idempotency_record())


async def test_a_start_that_could_not_be_stored_is_not_sent() -> None:
    """R54: the store fails after the run was stored: 503, no call, the key is free."""
    replica = await DurableRunsHarness().open()
    replica.store.fail_before = {"advance"}
    workflow = replica.harness.studio(DONE)
    problem = await replica.run_and_wait(workflow)
    assert isinstance(problem, RunError)
    assert ("store_unavailable", "not_run") == (problem.code, problem.ending)
    assert [] == upstream_of(workflow).sent
    assert None is await replica.idempotency_record()


async def test_a_run_owned_by_another_replica_is_not_sent() -> None:
    """R45: another replica adopted it after its lease had expired."""
    replica = await DurableRunsHarness().open()
    workflow = replica.harness.studio(DONE)
    run = replica.new_run(workflow)
    await replica.persist(run, KEY, callback_url=None)
    late = replica.clock.now().timestamp() + 1000
    assert 1 == len(await replica.store.adopt("other", now_at=late, until_at=late, limit=9))
    answer = await replica.runs.run_and_wait(replica.durable[run.id], workflow, "req_1")
    assert 503 == answer.status
    assert [] == upstream_of(workflow).sent


async def test_an_answer_that_could_not_be_stored_is_returned_and_stored_later() -> None:
    """R37: the result was paid for."""
    replica = await DurableRunsHarness().open()
    replica.store.fail_before = {"finish"}
    workflow = replica.harness.studio(DONE)
    answer = await replica.run_and_wait(workflow)
    assert isinstance(answer, StoredResponse)
    assert 200 == answer.status
    await yield_to_loop()
    claim = await replica.idempotency_record()
    assert claim is not None
    assert None is claim.response
    replica.store.fail_before = set()
    await yield_to_loop()
    claim = await replica.idempotency_record()
    assert claim is not None
    assert answer == claim.response
    assert 1 == upstream_of(workflow).starts


@pytest.mark.parametrize("ended", [False, True], ids=["adopted", "ended as unknown"])
async def test_a_result_is_stored_although_another_replica_has_adopted_the_run(ended: bool) -> None:  # noqa: FBT001 - a value
    """R45: the lease expired during the call. The provider's result replaces what the other replica did not know."""
    replica = await DurableRunsHarness().open()
    other = DurableRunsHarness("other", predecessor=replica)
    upstream = BlockedUpstream(replica.clock, DONE)
    workflow = replica.add_workflow(replica.harness.studio(), upstream)
    run = replica.new_run(workflow)
    asking = asyncio.create_task(replica.run_and_wait(workflow, run))
    await yield_until(lambda: bool(upstream.sent))
    replica.clock.advance(LEASE + 1)
    if ended:
        await other.recovery.adopt_expired_runs()
        assert "unknown" == await replica.stored_status(run)
    else:
        late = replica.clock.now().timestamp() + 1000
        await replica.store.adopt("other", now_at=late, until_at=late, limit=9)
    upstream.unblocked.set()
    answer = await asking
    assert isinstance(answer, StoredResponse)
    assert 200 == answer.status
    assert "succeeded" == await replica.stored_status(run)
    record = await replica.idempotency_record()
    assert record is not None
    assert answer == record.response
    assert [("lease_lost", run.id, True)] == [(e["event"], e["run_id"], e["stored"]) for e in replica.log.entries]


async def test_an_unknown_end_replaces_nothing() -> None:
    """R45: only what the provider has said is worth more than the end that the new owner stores."""
    replica = await DurableRunsHarness().open()
    upstream = BlockedUpstream(replica.clock, fault(Cause.TIMEOUT))
    workflow = replica.add_workflow(replica.harness.studio(), upstream)
    run = replica.new_run(workflow)
    asking = asyncio.create_task(replica.run_and_wait(workflow, run))
    await yield_until(lambda: bool(upstream.sent))
    late = replica.clock.now().timestamp() + 1000
    (taken,) = await replica.store.adopt("other", now_at=late, until_at=late, limit=9)
    upstream.unblocked.set()
    await asking
    assert taken == await replica.store.get_run(run.id)
    assert [("lease_lost", run.id, False)] == [(e["event"], e["run_id"], e["stored"]) for e in replica.log.entries]


async def test_a_run_owned_by_another_replica_is_not_deleted() -> None:
    """R45: this replica sent nothing; the new owner decides."""
    replica = await DurableRunsHarness().open()
    workflow = replica.harness.studio(Reply(422))
    run = replica.new_run(workflow)
    await replica.persist(run, KEY, callback_url=None)
    late = replica.clock.now().timestamp() + 1000
    (taken,) = await replica.store.adopt("other", now_at=late, until_at=late, limit=9)
    await replica.runs.discard(run.id)
    assert taken == await replica.store.get_run(run.id)
    assert None is not await replica.idempotency_record()


async def test_a_result_that_could_not_be_stored_is_written_once_more_at_shutdown() -> None:
    """R98: otherwise the process that adopts it would end it as unknown."""
    replica = await DurableRunsHarness().open()
    replica.store.fail_before = {"finish"}
    workflow = replica.harness.studio(DONE)
    run = replica.new_run(workflow)
    answer = await replica.run_and_wait(workflow, run)
    await replica.runs.drain()
    replica.store.fail_before = set()
    await replica.runs.close()
    claim = await replica.idempotency_record()
    assert ("succeeded", answer) == (await replica.stored_status(run), claim and claim.response)


async def test_a_key_that_could_not_be_freed_is_freed_later() -> None:
    """R40: until then it is in flight."""
    replica = await DurableRunsHarness().open()
    replica.store.fail_before = {"discard_run"}
    assert isinstance(await replica.run_and_wait(replica.harness.studio(Reply(422))), RunError)
    assert None is not await replica.idempotency_record()
    replica.store.fail_before = set()
    await yield_to_loop()
    assert None is await replica.idempotency_record()


async def test_a_run_continues_when_its_provider_id_could_not_be_stored() -> None:
    """Only a crash could lose the id."""
    replica = await DurableRunsHarness().open()

    def start() -> Reply:
        replica.store.fail_before = {"advance"}
        return STARTED

    def poll() -> Reply:
        replica.store.fail_before = set()
        return RUNNING

    run = await replica.run_in_background(replica.harness.layer(start, poll, ENDED))
    await yield_until(lambda: run.status == "succeeded")
    await yield_to_loop()
    assert "succeeded" == await replica.stored_status(run)
    assert ["following"] == [entry["phase"] for entry in replica.log.entries if entry["event"] == "not_written"]


# What is written, and when.


async def test_a_phase_is_stored_before_the_provider_is_called() -> None:
    """R44: SENDING before a start, FOLLOWING before a poll."""
    replica = await DurableRunsHarness().open()
    upstream = BlockedUpstream(replica.clock, STARTED, RUNNING, ENDED)
    workflow = replica.add_workflow(replica.harness.layer(), upstream)
    run = await replica.run_in_background(workflow)
    assert "queued" == await replica.stored_status(run)
    await yield_until(lambda: bool(upstream.sent))
    stored = await replica.store.get_run(run.id)
    assert stored is not None
    assert (Phase.SENDING, "running", None) == (stored.phase, stored.status, stored.provider_run_id)
    upstream.unblocked.set()
    await yield_until(lambda: len(upstream.sent) > 1)
    stored = await replica.store.get_run(run.id)
    assert stored is not None
    assert (Phase.FOLLOWING, "787", 1) == (stored.phase, stored.provider_run_id, stored.attempts)
    await yield_until(lambda: run.status == "succeeded")
    await yield_to_loop()
    stored = await replica.store.get_run(run.id)
    assert stored is not None
    assert (Phase.DONE, "succeeded", "787", 1) == (
        stored.phase, stored.status, stored.provider_run_id, stored.attempts
    )  # fmt: skip


async def test_a_repeatable_run_that_was_polled_may_still_fall_back() -> None:
    """The stored phase only grows; the fallback is started nevertheless."""
    replica = await DurableRunsHarness().open()
    other = replica.harness.studio(DONE)
    workflow = replica.harness.layer(STARTED, Reply(401), repeatable=True, fallbacks=(other,))
    answer = await replica.run_and_wait(workflow)
    assert isinstance(answer, StoredResponse)
    assert (200, 1) == (answer.status, upstream_of(other).starts)


# In the background.


async def test_background_runs_of_a_client_are_limited() -> None:
    """One more is a 503 with Retry-After; ended runs free their slots."""
    replica = await DurableRunsHarness(background_limit=BackgroundLimit(3)).open()
    upstream = BlockedUpstream(replica.clock, DONE)
    workflow = replica.add_workflow(replica.harness.studio(), upstream)
    runs = [replica.new_run(workflow, synchronous=False) for _ in range(10)]

    async def one(number: int) -> str:
        try:
            await replica.run_in_background(workflow, runs[number])
        except RunError as problem:
            return f"{problem.code} {problem.retry_after}"
        return ""

    assert ["overloaded 5"] * 7 == sorted(await asyncio.gather(*map(one, range(10))))[3:]
    waiting = replica.new_run(workflow)
    await replica.persist(waiting, None, callback_url=None)  # clients that wait are not counted
    upstream.unblocked.set()
    await yield_to_loop()
    assert 3 == len(upstream.sent)
    await replica.run_in_background(workflow)


async def test_a_used_key_is_answered_although_the_background_limit_is_reached() -> None:
    """R37: an accepted run is not reported as not run because of later requests."""
    replica = await DurableRunsHarness(background_limit=BackgroundLimit(1)).open()
    workflow = replica.add_workflow(replica.harness.studio(), BlockedUpstream(replica.clock, DONE))
    first = replica.new_run(workflow, synchronous=False)
    await replica.persist(first, KEY, callback_url=None)
    claim = await replica.runs.persist(replica.new_run(workflow, synchronous=False), KEY, callback_url=None)
    assert isinstance(claim, IdempotencyRecord)
    assert first.id == claim.run_id
    with pytest.raises(RunError, match="overloaded"):
        await replica.runs.persist(replica.new_run(workflow, synchronous=False), None, callback_url=None)


@pytest.mark.parametrize("how", ["taken", "down"])
async def test_a_run_that_was_not_stored_does_not_count_in_the_background_limit(how: str) -> None:
    """A used key or a failing store leaves the count unchanged."""
    replica = await DurableRunsHarness(background_limit=BackgroundLimit(1)).open()
    workflow = replica.add_workflow(replica.harness.studio(DONE))
    if how == "taken":
        await replica.persist(replica.new_run(workflow), KEY, callback_url=None)
    else:
        replica.store.fail_before = {"create_run"}
    for _ in range(3):
        run = replica.new_run(workflow, synchronous=False)
        if how == "taken":
            assert None is not await replica.runs.persist(run, KEY, callback_url=None)
        else:
            with pytest.raises(RunError, match=r".*") as refused:
                await replica.runs.persist(run, KEY, callback_url=None)
            assert "store_unavailable" == refused.value.code
    replica.store.fail_before = set()
    await replica.run_in_background(workflow)


async def test_an_unexpected_error_ends_the_run() -> None:
    """No run may stay without an end."""
    replica = await DurableRunsHarness().open()
    run = await replica.run_in_background(replica.harness.studio(RuntimeError("CANARY")))
    await yield_until(lambda: run.finished_at is not None)
    await yield_to_loop()
    assert "unknown" == await replica.stored_status(run)
    assert "CANARY" not in str(await replica.store.get_run(run.id))


# Leaving.


async def test_shutdown_leaves_queued_runs_in_the_store() -> None:
    """R98: the process that adopts the run starts it."""
    replica = await DurableRunsHarness().open()
    workflow = replica.harness.studio(DONE)
    run = await replica.run_in_background(workflow)
    replica.runs.closing = True
    await yield_to_loop()
    await replica.runs.drain()
    assert ("queued", []) == (await replica.stored_status(run), upstream_of(workflow).sent)


async def test_shutdown_waits_for_the_answer_to_a_start() -> None:
    """R98: the start was paid for, and its response arrives soon."""
    replica = await DurableRunsHarness().open()
    upstream = BlockedUpstream(replica.clock, DONE)
    run = await replica.run_in_background(replica.add_workflow(replica.harness.studio(), upstream))
    await yield_until(lambda: bool(upstream.sent))
    draining = asyncio.create_task(replica.runs.drain())
    await yield_to_loop()
    assert not draining.done()
    upstream.unblocked.set()
    await draining
    assert "succeeded" == await replica.stored_status(run)


async def test_shutdown_does_not_wait_for_a_run_that_can_be_polled() -> None:
    """R98: the process that adopts it polls, also if its id was received during the shutdown."""
    replica = await DurableRunsHarness().open()
    upstream = BlockedUpstream(replica.clock, STARTED, RUNNING)
    run = await replica.run_in_background(replica.add_workflow(replica.harness.layer(), upstream))
    await yield_until(lambda: bool(upstream.sent))
    draining = asyncio.create_task(replica.runs.drain())
    await yield_to_loop()
    upstream.unblocked.set()
    await draining
    stored = await replica.store.get_run(run.id)
    assert stored is not None
    assert (Phase.FOLLOWING, "787", 1) == (stored.phase, stored.provider_run_id, len(upstream.sent))


async def test_immediate_shutdown_waits_for_nothing() -> None:
    """R98: second signal; a start in flight stays SENDING in the store."""
    replica = await DurableRunsHarness().open()
    upstream = BlockedUpstream(replica.clock, DONE)
    run = await replica.run_in_background(replica.add_workflow(replica.harness.studio(), upstream))
    await yield_until(lambda: bool(upstream.sent))
    await asyncio.wait_for(replica.runs.close(), 1.0)
    stored = await replica.store.get_run(run.id)
    assert stored is not None
    assert Phase.SENDING is stored.phase


async def test_an_unavailable_store_does_not_block_shutdown() -> None:
    """R98: an end that could not be stored becomes `unknown` in the next process."""
    replica = await DurableRunsHarness().open()
    replica.store.fail_before = {"finish"}
    run = await replica.run_in_background(replica.harness.studio(DONE))
    await yield_until(lambda: run.status == "succeeded")
    await yield_to_loop()
    await asyncio.wait_for(replica.runs.drain(), 1.0)
    assert "running" == await replica.stored_status(run)


async def test_shutdown_waits_until_a_result_is_stored() -> None:
    """R98: a received result is not dropped because the store is slow."""
    replica = await DurableRunsHarness().open()
    written = asyncio.Event()
    write = replica.store.finish

    async def slow(run_id: str, finish: FinalState) -> bool:
        await written.wait()
        return await write(run_id, finish)

    replica.store.finish = slow  # type: ignore[method-assign]  # it is slow, and the same otherwise
    run = await replica.run_in_background(replica.harness.studio(DONE))
    await yield_until(lambda: run.finished_at is not None)
    draining = asyncio.create_task(replica.runs.drain())
    await yield_to_loop()
    written.set()
    await draining
    assert "succeeded" == await replica.stored_status(run)


# Refused starts.

REFUSED = [Reply(429, retry_after=20.0), fault(Cause.UNREACHABLE)]


async def run_in_backoff(
    step: ScriptStep, *then: ScriptStep, **fields: Any
) -> tuple[DurableRunsHarness, RunRecord, ScriptedUpstream]:
    """Return a background run with a rejected start, during the backoff."""
    clock = VirtualClock()
    replica = await DurableRunsHarness("dead", clock=clock).open()
    workflow = replica.add_workflow(replica.harness.layer(step, *then, **fields))
    run = await replica.run_in_background(workflow)
    upstream = upstream_of(workflow)
    await yield_until(lambda: bool(upstream.sent))
    await run_ready_tasks()
    assert (1, None) == (upstream.starts, run.finished_at)
    return replica, run, upstream


@pytest.mark.parametrize("step", REFUSED)
@pytest.mark.parametrize("how", ["settle", "close"])
async def test_a_rejected_start_leaves_the_run_queued(step: ScriptStep, how: str) -> None:
    """R47: after a shutdown or kill during the backoff, the next process may start the run."""
    predecessor, run, refused = await run_in_backoff(step, STARTED, ENDED)
    stored = await predecessor.store.get_run(run.id)
    assert stored is not None
    assert (Phase.QUEUED, "running", 1) == (stored.phase, stored.status, stored.attempts)
    await asyncio.wait_for(predecessor.runs.drain() if how == "settle" else predecessor.runs.close(), 1.0)
    assert 1 == refused.starts
    predecessor.clock.advance(LEASE + 1)
    after = DurableRunsHarness("next", predecessor=predecessor)
    workflow = after.add_workflow(after.harness.layer(STARTED, ENDED))
    await after.recovery.adopt_expired_runs()
    assert isinstance(after.clock, VirtualClock)
    await after.clock.run_for(5)
    assert ("succeeded", 1) == (await after.stored_status(run), upstream_of(workflow).starts)
    shown = await after.store.get_run(run.id)
    assert shown is not None
    assert 2 == shown.attempts


async def test_a_start_rejected_during_shutdown_is_left_to_the_next_process() -> None:
    """R98: the shutdown does not wait for a backoff."""
    replica = await DurableRunsHarness(clock=VirtualClock()).open()
    upstream = BlockedUpstream(replica.clock, Reply(429, retry_after=20.0), STARTED)
    run = await replica.run_in_background(replica.add_workflow(replica.harness.layer(), upstream))
    await yield_until(lambda: bool(upstream.sent))
    draining = asyncio.create_task(replica.runs.drain())
    await yield_to_loop()
    upstream.unblocked.set()
    await asyncio.wait_for(draining, 1.0)
    stored = await replica.store.get_run(run.id)
    assert stored is not None
    assert (Phase.QUEUED, 1) == (stored.phase, upstream.starts)


async def test_each_repeated_start_is_stored_before_it_is_sent() -> None:
    """R44: SENDING, QUEUED, SENDING: a crash at any moment causes no second start of a sent one."""
    replica = await DurableRunsHarness().open()
    phases: list[Phase] = []

    def record_phase() -> Reply:
        phases.append(next(iter(replica.store._runs.values())).phase)
        return Reply(429, retry_after=0.1) if len(phases) < 3 else DONE

    answer = await replica.run_and_wait(replica.harness.studio(record_phase))
    assert isinstance(answer, StoredResponse)
    assert (200, [Phase.SENDING] * 3) == (answer.status, phases)


async def test_a_rejection_does_not_revert_a_start_that_may_have_run() -> None:
    """R49: the response to the first start was lost and the second start rejected: the outcome is unknown."""
    replica = await DurableRunsHarness(clock=VirtualClock()).open()
    workflow = replica.add_workflow(
        replica.harness.layer(fault(Cause.DISCONNECTED), Reply(429, retry_after=20.0), STARTED, repeatable=True)
    )
    run = await replica.run_in_background(workflow)
    assert isinstance(replica.clock, VirtualClock)
    await replica.clock.run_for(5)
    stored = await replica.store.get_run(run.id)
    assert stored is not None
    assert (Phase.SENDING, 2) == (stored.phase, upstream_of(workflow).starts)
    await replica.runs.close()


async def test_a_rejection_that_could_not_be_stored_changes_nothing_else() -> None:
    """Only a crash before the next start would make it unknown."""
    replica = await DurableRunsHarness().open()
    replica.store.fail_before = {"revert_to_queued"}
    answer = await replica.run_and_wait(replica.harness.studio(Reply(429, retry_after=0.1), DONE))
    assert isinstance(answer, StoredResponse)
    assert 200 == answer.status
    assert [("not_written", "queued")] == [(e["event"], e["phase"]) for e in replica.log.entries]


# What is told later.


async def test_the_key_of_an_asynchronous_run_keeps_its_202() -> None:
    """R37: also if the run was purged before its key."""
    replica = await DurableRunsHarness().open()
    run = await replica.run_in_background(replica.harness.studio(DONE), key=KEY)
    accepted = rendering.render_accepted(replica.durable[run.id].stored)
    await yield_until(lambda: run.finished_at is not None)
    await yield_to_loop()
    await replica.store.purge(runs_before_at=replica.clock.now().timestamp() + 1e6, keys_before_at=0)
    claim = await replica.idempotency_record()
    assert claim is not None
    assert (None, accepted) == (await replica.stored_status(run), claim.response)


async def test_the_first_delay_of_the_schedule_counts() -> None:
    """R52: no attempt is made before it."""
    replica = await DurableRunsHarness(first_delay=lambda: 60.0).open()
    workflow = replica.harness.studio(DONE)
    run = replica.new_run(workflow, synchronous=False)
    await replica.persist(run, None, callback_url="https://hooks.example.com/here")
    replica.runs.run_in_background(replica.durable[run.id], workflow)
    await yield_until(lambda: run.finished_at is not None)
    await yield_to_loop()
    now = replica.clock.now().timestamp()
    assert [] == await replica.store.take_due_callbacks(now_at=now + 59, until_at=now + 100, limit=9)
    assert [run.id] == [
        d.run_id for d in await replica.store.take_due_callbacks(now_at=now + 61, until_at=now + 100, limit=9)
    ]


@pytest.mark.parametrize("moment", ["fail_before", "fail_after"])
async def test_events_that_the_store_has_not_confirmed_are_in_the_timeline_once(moment: str) -> None:
    """Without the call that has started the run, a timeline would hide what may have been paid for."""
    harness = await DurableRunsHarness().open()
    upstream = BlockedUpstream(harness.clock, STARTED, ENDED)
    run = await harness.run_in_background(harness.add_workflow(harness.harness.layer(), upstream))
    await yield_to_loop()
    getattr(harness.store, moment).add("advance")  # that of the provider's id of the run
    upstream.unblocked.set()
    await yield_until(lambda: not harness.runs.owns(run.id))
    await yield_to_loop()
    lines = await harness.store.get_timeline(run.id)
    events = [(event["event"], event.get("operation")) for event in decode_timeline(lines or b"")]
    assert [("called", "start"), ("called", "poll"), ("ended", None)] == [
        event for event in events if event[0] != "waited"
    ]
