"""Recovery of abandoned runs: the stored phase decides, and nothing is started twice."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from gateway.runs.model import RunRecord
from gateway.store.contract import StoreUnavailable
from gateway.store.records import IdempotencyRecord, Phase
from providers.contract import Reply
from tests.runs.durable.durable_harness import (
    KEY,
    LEASE,
    BlockedUpstream,
    DurableRunsHarness,
    yield_to_loop,
    yield_until,
)
from tests.runs.executor_harness import DONE, ENDED, RUNNING, STARTED, ScriptedUpstream, ScriptStep, upstream_of
from tests.support.virtual_clock import VirtualClock


async def abandoned_run(
    how: str,
    *,
    synchronous: bool = False,
    timeout: float = 60.0,  # noqa: ASYNC109 - of the run
) -> tuple[DurableRunsHarness, RunRecord]:
    """Return an ended process and its run in this phase, with an expired lease."""
    replica = await DurableRunsHarness("dead").open()
    upstream = BlockedUpstream(replica.clock, STARTED, RUNNING)
    workflow = replica.add_workflow(replica.harness.layer(), upstream)
    run = replica.new_run(workflow, synchronous=synchronous, timeout=timeout)
    await replica.persist(run, KEY, callback_url=None)
    if how != "queued":
        replica.runs.run_in_background(replica.durable[run.id], workflow)
        await yield_until(lambda: bool(upstream.sent))
    if how == "following":
        upstream.unblocked.set()
        await yield_until(lambda: len(upstream.sent) > 1)
    await replica.runs.close()
    replica.clock.advance(LEASE + 1)
    return replica, run


def successor_of(predecessor: DurableRunsHarness, *script: ScriptStep) -> tuple[DurableRunsHarness, ScriptedUpstream]:
    """Return the next process and its upstream."""
    replica = DurableRunsHarness("next", predecessor=predecessor)
    workflow = replica.harness.layer()
    upstream = ScriptedUpstream(replica.clock, script)
    replica.add_workflow(workflow, upstream)
    return replica, upstream


async def test_a_queued_run_is_started_once() -> None:
    """R47: an accepted run is executed, and a second adoption starts nothing."""
    predecessor, run = await abandoned_run("queued")
    replica, upstream = successor_of(predecessor, STARTED, RUNNING, ENDED)
    await replica.recovery.adopt_expired_runs()
    await replica.recovery.adopt_expired_runs()
    await yield_to_loop()
    assert ("succeeded", 1) == (await replica.stored_status(run), upstream.starts)


async def test_a_queued_run_whose_client_waited_is_dropped() -> None:
    """R44: its client got no response and nothing was sent, so its key is free."""
    predecessor, run = await abandoned_run("queued", synchronous=True)
    replica, upstream = successor_of(predecessor, STARTED)
    await replica.recovery.adopt_expired_runs()
    await yield_to_loop()
    assert (None, None, []) == (await replica.stored_status(run), await replica.idempotency_record(), upstream.sent)


@pytest.mark.parametrize("synchronous", [True, False])
async def test_a_run_interrupted_while_sending_ends_as_unknown(synchronous: bool) -> None:  # noqa: FBT001 - a value
    """R44, R49: it is never sent again, and its key returns that outcome."""
    predecessor, run = await abandoned_run("sending", synchronous=synchronous)
    replica, upstream = successor_of(predecessor, STARTED)
    await replica.recovery.adopt_expired_runs()
    await yield_to_loop()
    assert ("unknown", []) == (await replica.stored_status(run), upstream.sent)
    claim = await replica.idempotency_record()
    assert claim is not None
    assert claim.response is not None
    if not synchronous:
        assert (202, f"/runs/{run.id}") == (claim.response.status, dict(claim.response.headers)["Location"])
        return
    assert b'"outcome":"unknown"' in claim.response.body
    assert b'"retryable":false' in claim.response.body


@pytest.mark.parametrize("synchronous", [True, False])
async def test_a_run_with_a_provider_id_is_polled_after_adoption(synchronous: bool) -> None:  # noqa: FBT001 - a value
    """R48: the same execution id, no second start, and its key has the response."""
    predecessor, run = await abandoned_run("following", synchronous=synchronous)
    replica, upstream = successor_of(predecessor, RUNNING, ENDED)
    await replica.recovery.adopt_expired_runs()
    await yield_until(lambda: len(upstream.sent) > 1)
    await yield_to_loop()
    assert ("succeeded", 0) == (await replica.stored_status(run), upstream.starts)
    assert all("787" in call.path for call, _, _ in upstream.sent)
    claim = await replica.idempotency_record()
    assert claim is not None
    assert claim.response is not None
    assert (200 if synchronous else 202) == claim.response.status


async def test_a_run_found_after_its_deadline_is_still_polled() -> None:
    """R48: its deadline passed while no process ran; an existing result is still fetched."""
    predecessor, run = await abandoned_run("following")
    predecessor.clock.advance(10_000)
    replica, _ = successor_of(predecessor, RUNNING, ENDED)
    await replica.recovery.adopt_expired_runs()
    await yield_to_loop()
    assert "succeeded" == await replica.stored_status(run)


async def test_a_queued_run_that_is_found_too_late_is_not_started() -> None:
    """After its deadline the outcome is not_run, without charges."""
    predecessor, run = await abandoned_run("queued")
    predecessor.clock.advance(10_000)
    replica, upstream = successor_of(predecessor, STARTED, ENDED)
    await replica.recovery.adopt_expired_runs()
    await yield_to_loop()
    assert ("not_run", 0) == (await replica.stored_status(run), upstream.starts)


@pytest.mark.parametrize(("how", "status"), [("queued", "not_run"), ("following", "unknown")])
async def test_a_run_of_a_removed_workflow_ends(how: str, status: str) -> None:
    """After a configuration change; its document has what is known."""
    predecessor, run = await abandoned_run(how)
    replica = DurableRunsHarness("next", predecessor=predecessor)
    await replica.recovery.adopt_expired_runs()
    await yield_to_loop()
    stored = await replica.store.get_run(run.id)
    assert stored is not None
    assert stored.document is not None
    assert status == stored.status
    assert b"workflow_not_found" in stored.document


async def test_a_lease_that_is_not_over_is_respected() -> None:
    """R45: another replica executes the run."""
    alive = await DurableRunsHarness("alive").open()
    upstream = BlockedUpstream(alive.clock, DONE)
    workflow = alive.add_workflow(alive.harness.studio(), upstream)
    run = await alive.run_in_background(workflow)
    other = DurableRunsHarness("other", predecessor=alive)
    other.add_workflow(other.harness.studio(DONE))
    alive.clock.advance(LEASE - 1)
    await other.recovery.adopt_expired_runs()
    await yield_to_loop()
    assert [] == upstream_of(other.workflows["studio"]).sent
    upstream.unblocked.set()
    await yield_to_loop()
    assert "succeeded" == await alive.stored_status(run)


async def test_leases_are_renewed_for_as_long_as_the_process_lives() -> None:
    """R45: a run longer than a lease is not adopted by others."""
    alive = await DurableRunsHarness("alive").open()
    upstream = BlockedUpstream(alive.clock, DONE)
    workflow = alive.add_workflow(alive.harness.studio(), upstream)
    run = await alive.run_in_background(workflow, alive.new_run(workflow, synchronous=False, timeout=1000.0))
    other = DurableRunsHarness("other", predecessor=alive)
    started = alive.clock.monotonic()
    watching = asyncio.create_task(alive.recovery.run_forever())
    await yield_until(lambda: alive.clock.monotonic() > started + 3 * LEASE)
    await other.recovery.adopt_expired_runs()
    watching.cancel()
    stored = await alive.store.get_run(run.id)
    assert stored is not None
    assert "alive" == stored.owner
    await alive.runs.close()


async def test_one_of_several_adopts_a_run() -> None:
    """R45: of two concurrent replicas one starts the run."""
    predecessor, run = await abandoned_run("queued")
    first, one = successor_of(predecessor, STARTED, ENDED)
    second = DurableRunsHarness("third", predecessor=predecessor)
    other = ScriptedUpstream(predecessor.clock, (STARTED, ENDED))
    second.add_workflow(second.harness.layer(), other)
    await asyncio.gather(first.recovery.adopt_expired_runs(), second.recovery.adopt_expired_runs())
    await yield_to_loop()
    assert ("succeeded", 1) == (await first.stored_status(run), one.starts + other.starts)


@pytest.mark.parametrize("how", ["in doubt", "refused"])
async def test_runs_adopted_without_confirmation_are_resumed_at_the_next_check(how: str) -> None:
    """R48: the store's answer to the adoption was lost; this process owns the run and must continue it."""
    predecessor, run = await abandoned_run("queued", timeout=1e6)
    replica, upstream = successor_of(predecessor, STARTED, ENDED)
    (replica.store.fail_after if how == "in doubt" else replica.store.fail_before).add("adopt")
    for _ in range(3):
        with pytest.raises(StoreUnavailable):
            await replica.recovery.adopt_expired_runs()
    stored = await replica.store.get_run(run.id)
    assert stored is not None
    assert ("queued", how == "in doubt") == (stored.status, stored.owner == replica.runs.owner)
    replica.store.fail_after, replica.store.fail_before = set(), set()
    for _ in range(3):
        await replica.recovery.adopt_expired_runs()
        await yield_to_loop()
    assert ("succeeded", 1) == (await replica.stored_status(run), upstream.starts)


async def test_all_abandoned_runs_are_adopted() -> None:
    """In several batches."""
    predecessor = await DurableRunsHarness("dead").open()
    workflow = predecessor.add_workflow(predecessor.harness.studio(DONE))
    for _ in range(250):
        await predecessor.persist(predecessor.new_run(workflow, synchronous=False), None, callback_url=None)
    predecessor.clock.advance(LEASE + 1)
    replica = DurableRunsHarness("next", predecessor=predecessor)
    replica.add_workflow(replica.harness.studio(DONE))
    await replica.recovery.adopt_expired_runs()
    await yield_to_loop(300)
    assert 250 == upstream_of(replica.workflows["studio"]).starts


async def test_a_store_that_fails_in_between_loses_no_run() -> None:
    """Adopted runs belong to this process, which must end each of them."""
    predecessor = await DurableRunsHarness("dead").open()
    workflow = predecessor.add_workflow(predecessor.harness.studio(DONE))
    dropped = predecessor.new_run(workflow)
    await predecessor.persist(dropped, KEY, callback_url=None)
    predecessor.clock.advance(1)
    run = predecessor.new_run(workflow, synchronous=False)
    await predecessor.persist(run, None, callback_url=None)
    predecessor.clock.advance(LEASE + 1)
    replica = DurableRunsHarness("next", predecessor=predecessor)
    replica.add_workflow(replica.harness.studio(DONE))
    replica.store.fail_before = {"discard_run"}
    with contextlib.suppress(StoreUnavailable):
        await replica.recovery.adopt_expired_runs()
    replica.store.fail_before = set()
    await yield_to_loop()
    assert ("succeeded", None) == (await replica.stored_status(run), await replica.stored_status(dropped))


async def test_a_closing_replica_adopts_nothing() -> None:
    """R98: it renews the leases of runs that it completes, and leaves others to running replicas."""
    predecessor, run = await abandoned_run("queued")
    replica, upstream = successor_of(predecessor, STARTED, ENDED)
    replica.runs.closing = True
    watching = asyncio.create_task(replica.recovery.run_forever())
    await yield_to_loop()
    watching.cancel()
    stored = await replica.store.get_run(run.id)
    assert stored is not None
    assert ("dead", Phase.QUEUED, []) == (stored.owner, stored.phase, upstream.sent)


async def test_a_key_of_a_run_that_was_adopted_is_in_flight_until_it_ends() -> None:
    """R44: no second start in the meantime."""
    predecessor, run = await abandoned_run("following", synchronous=True)
    replica = DurableRunsHarness("next", predecessor=predecessor)
    upstream = BlockedUpstream(replica.clock, ENDED)
    workflow = replica.add_workflow(replica.harness.layer(), upstream)
    await replica.recovery.adopt_expired_runs()
    claim = await replica.runs.persist(replica.new_run(workflow), KEY, callback_url=None)
    assert isinstance(claim, IdempotencyRecord)
    assert (run.id, None) == (claim.run_id, claim.response)
    upstream.unblocked.set()
    await yield_to_loop()
    answered = await replica.idempotency_record()
    assert answered is not None
    assert None is not answered.response


async def test_a_provider_that_refuses_a_followed_run_leaves_it_unknown() -> None:
    """R48: a refused poll does not change that the run was started."""
    predecessor, run = await abandoned_run("following")
    replica, upstream = successor_of(predecessor, Reply(404))
    await replica.recovery.adopt_expired_runs()
    await yield_until(lambda: bool(upstream.sent))
    await yield_to_loop()
    assert "unknown" == await replica.stored_status(run)


async def test_the_recovery_loop_continues_after_a_store_failure() -> None:
    """It retries until the store is available."""
    predecessor, run = await abandoned_run("queued", timeout=1e6)
    replica, upstream = successor_of(predecessor, STARTED, ENDED)
    await replica.store.close()
    watching = asyncio.create_task(replica.recovery.run_forever())
    await yield_to_loop()
    assert [] == upstream.sent
    await replica.store.open()
    await yield_to_loop()
    watching.cancel()
    assert ("succeeded", 1) == (await replica.stored_status(run), upstream.starts)


async def _keeps_its_run(disturb: Callable[[VirtualClock, DurableRunsHarness], Awaitable[None]]) -> None:
    """Of two live replicas, one has a start in the air while `disturb` makes every lease seem to be over."""
    clock = VirtualClock()
    alive = await DurableRunsHarness("alive", clock=clock).open()
    upstream = BlockedUpstream(clock, DONE)
    workflow = alive.add_workflow(alive.harness.studio(), upstream)
    run = await alive.run_in_background(workflow, alive.new_run(workflow, synchronous=False, timeout=1000.0))
    other = DurableRunsHarness("other", predecessor=alive)
    other.add_workflow(workflow)
    watching = [asyncio.create_task(other.recovery.run_forever())]
    await clock.run_for(LEASE / 3 - 1)
    watching.append(asyncio.create_task(alive.recovery.run_forever()))  # a little later, each time
    await disturb(clock, alive)
    await clock.run_for(3 * LEASE)
    upstream.unblocked.set()
    await clock.run_for(1)
    for task in watching:
        task.cancel()
    assert ("succeeded", 1) == (await alive.stored_status(run), upstream.starts)
    assert [] == [entry for entry in other.log.entries if entry["event"] == "adopted"]


async def test_a_live_replica_keeps_its_runs_after_a_store_outage_longer_than_a_lease() -> None:
    """R45: after an outage of the store, no replica adopts a run of a live replica."""

    async def outage(clock: VirtualClock, replica: DurableRunsHarness) -> None:
        await replica.store.close()
        await clock.run_for(3 * LEASE)
        await replica.store.open()

    await _keeps_its_run(outage)


@pytest.mark.parametrize("step", [10 * LEASE, 3600.0, -3600.0])
async def test_a_live_replica_keeps_its_runs_when_the_wall_clock_is_set(step: float) -> None:
    """R45: every lease seems to be over at once; the start in the air must not be ended as unknown."""

    async def set_clock(clock: VirtualClock, _: DurableRunsHarness) -> None:
        await clock.run_for(LEASE)
        clock.step_wall(step)

    await _keeps_its_run(set_clock)


async def test_a_spec_of_another_version_does_not_stop_recovery() -> None:
    """An unreadable run is not sent, and the other runs are adopted."""
    predecessor, run = await abandoned_run("queued")
    stored = await predecessor.store.get_run(run.id)
    assert stored is not None
    await predecessor.store.create_run(
        replace(stored, id="run_odd", order=b'{"odd":1}', created_at=stored.created_at - 1), None
    )
    replica, upstream = successor_of(predecessor, STARTED, RUNNING, ENDED)
    await replica.recovery.adopt_expired_runs()
    await yield_to_loop()
    assert 1 == upstream.starts


@pytest.mark.parametrize(
    ("how", "known", "workflow", "outcome"),
    [
        ("sending", True, "layer", "unknown"),
        ("following", False, "(gone)", "unknown"),
        ("queued", False, "(gone)", "not_run"),
    ],
)
async def test_an_abandoned_run_is_counted_once(how: str, known: bool, workflow: str, outcome: str) -> None:  # noqa: FBT001 - a value
    """R92: under a configured name, with a log entry."""
    predecessor, run = await abandoned_run(how)
    replica = successor_of(predecessor)[0] if known else DurableRunsHarness("next", predecessor=predecessor)
    await replica.recovery.adopt_expired_runs()
    await yield_to_loop()
    assert 1 == replica.harness.metric_value("runward_runs_total")
    assert 1 == replica.harness.metric_value("runward_runs_total", client="one", workflow=workflow, outcome=outcome)
    ended = [entry for entry in replica.log.entries if entry["event"] == "run_ended"]
    assert [(run.id, outcome)] == [(entry["run_id"], entry["outcome"]) for entry in ended]


@pytest.mark.parametrize("order", [b'{"odd":1}', b"\xff"])
@pytest.mark.parametrize(("how", "status"), [("queued", "not_run"), ("sending", "unknown"), ("following", "unknown")])
async def test_a_run_with_an_unreadable_spec_ends_after_its_deadline(how: str, status: str, order: bytes) -> None:
    """Until then a version that can read it may adopt it; then it ends with what is known."""
    predecessor, run = await abandoned_run(how)
    stored = await predecessor.store.get_run(run.id)
    assert stored is not None
    predecessor.store._put(replace(stored, order=order))
    replica, upstream = successor_of(predecessor, STARTED, ENDED)
    await replica.recovery.adopt_expired_runs()
    assert stored.status == await replica.stored_status(run)
    replica.clock.advance(stored.deadline_at - replica.clock.now().timestamp() + 29)
    await replica.recovery.adopt_expired_runs()
    assert stored.status == await replica.stored_status(run)
    replica.clock.advance(2)
    for _ in range(2):
        await replica.recovery.adopt_expired_runs()
    shown = await replica.store.get_run(run.id)
    assert shown is not None
    assert shown.document is not None
    assert (status, []) == (shown.status, upstream.sent)
    assert b"cannot read the specification" in shown.document
    assert 1 == replica.harness.metric_value("runward_runs_total")


async def test_a_run_rejected_by_a_fallback_is_started_from_the_first_workflow() -> None:
    """R47: nothing was run, so the requested workflow is started, not the last one tried."""
    predecessor, run = await abandoned_run("queued")
    stored = await predecessor.store.get_run(run.id)
    assert stored is not None
    predecessor.store._put(replace(stored, provider="other", attempts=2, status="running"))
    replica, upstream = successor_of(predecessor, STARTED, RUNNING, ENDED)
    await replica.recovery.adopt_expired_runs()
    await yield_to_loop()
    assert ("succeeded", 1) == (await replica.stored_status(run), upstream.starts)
