"""Recovery conflicts: adoption of runs in progress, and adoption with other limits, configuration or store state."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from gateway.limits.admission import Admission
from gateway.limits.config import ClientLimitsConfig
from gateway.runs.catalog import Catalog
from gateway.runs.durable.recovery import Recovery
from gateway.runs.model import RunRecord
from gateway.store.records import FinalState, Phase, StoredRun
from tests.runs.durable.durable_harness import LEASE, BlockedUpstream, DurableRunsHarness, yield_to_loop, yield_until
from tests.runs.durable.test_recovery import abandoned_run, successor_of
from tests.runs.executor_harness import DONE, ENDED, RUNNING, STARTED, ExecutorHarness, ScriptStep
from tests.support.virtual_clock import VirtualClock


async def replica_with_expired_lease(
    how: str, *script: ScriptStep
) -> tuple[DurableRunsHarness, BlockedUpstream, RunRecord]:
    """Return a replica with a queued run and without a heartbeat for longer than a lease.

    Another one took the run over meanwhile, brought it so far, and went.
    """
    replica = await DurableRunsHarness("stalled").open()
    upstream = BlockedUpstream(replica.clock, *script)
    workflow = replica.add_workflow(replica.harness.layer(), upstream)
    admit = replica.harness.limiter.admit

    async def late(*names: str, **more: Any) -> Admission:
        await upstream.unblocked.wait()
        return await admit(*names, **more)

    replica.harness.limiter.admit = late  # type: ignore[method-assign]  # it takes its time
    replica.harness.limiter.try_admit = lambda *_, **__: None  # type: ignore[method-assign]
    run = await replica.run_in_background(workflow, replica.new_run(workflow, synchronous=False, timeout=1e6))
    await yield_to_loop()
    replica.clock.advance(LEASE + 1)
    other = DurableRunsHarness("other", predecessor=replica)
    other_upstream = BlockedUpstream(replica.clock, STARTED, RUNNING)
    other.add_workflow(other.harness.layer(), other_upstream)
    other.runs.closing = how == "queued"  # then it shuts down before it starts anything
    await other.recovery.adopt_expired_runs()
    await yield_until(lambda: bool(other_upstream.sent) or how == "queued")
    if how == "following":
        other_upstream.unblocked.set()
        await yield_until(lambda: len(other_upstream.sent) > 1)
    await other.runs.close()
    replica.clock.advance(LEASE + 1)
    return replica, upstream, run


async def test_a_run_adopted_again_by_the_replica_that_still_executes_it_is_started_once() -> None:
    """R45: the lease expired, another replica adopted the run and ended; this one adopts what it still executes."""
    replica, upstream, run = await replica_with_expired_lease("queued", STARTED, RUNNING, ENDED)
    await replica.recovery.adopt_expired_runs()
    await yield_to_loop()
    upstream.unblocked.set()
    await yield_until(lambda: run.finished_at is not None)
    await yield_to_loop()
    assert (1, "succeeded", False) == (upstream.starts, await replica.stored_status(run), replica.runs.owns(run.id))


@pytest.mark.parametrize(("how", "status"), [("sending", "unknown"), ("following", "succeeded")])
async def test_a_run_sent_by_another_replica_meanwhile_is_not_sent_again(how: str, status: str) -> None:
    """R45: it was still queued here; the stored phase counts."""
    replica, upstream, run = await replica_with_expired_lease(how, RUNNING, ENDED)
    await replica.recovery.adopt_expired_runs()
    upstream.unblocked.set()
    await yield_until(lambda: not replica.runs.owns(run.id))
    await yield_to_loop()
    assert (0, status) == (upstream.starts, await replica.stored_status(run))


@pytest.mark.parametrize("limits", [ClientLimitsConfig(daily=1), ClientLimitsConfig(concurrency=1)])
@pytest.mark.parametrize("synchronous", [True, False])
async def test_no_limit_prevents_polling_a_started_run(limits: ClientLimitsConfig, synchronous: bool) -> None:  # noqa: FBT001 - a value
    """R48: it was charged when it was started, whatever quota remains."""
    predecessor, run = await abandoned_run("following", synchronous=synchronous)
    replica, _ = successor_of(predecessor, RUNNING, ENDED)
    harness = ExecutorHarness(clock=replica.clock, client=limits)
    await harness.limiter.admit("one", "other", "other", deadline=replica.clock.monotonic() + 1.0)
    replica.runs.executor = harness.executor
    await replica.recovery.adopt_expired_runs()
    await yield_until(lambda: not replica.runs.owns(run.id))
    await yield_to_loop()
    assert "succeeded" == await replica.stored_status(run)


async def test_a_started_run_is_polled_although_its_workflow_was_removed() -> None:
    """R48: the provider still exists and has the run id."""
    predecessor, run = await abandoned_run("following")
    replica, upstream = successor_of(predecessor, RUNNING, ENDED)
    workflow = replica.workflows.pop("layer")
    catalog = Catalog({}, {"layer": workflow.provider})
    recovery = Recovery(replica.runs, replica.store, catalog, replica.clock, replica.runs.log)
    await recovery.adopt_expired_runs()
    await yield_to_loop()
    assert ("succeeded", 0) == (await replica.stored_status(run), upstream.starts)


async def test_leases_are_renewed_while_many_runs_are_adopted() -> None:
    """R45: with a slow store and many runs, leases are renewed between batches and do not expire."""
    clock = VirtualClock()
    dead = await DurableRunsHarness("dead", clock=clock).open()
    workflow = dead.add_workflow(dead.harness.studio(DONE))
    for _ in range(300):
        lost = dead.new_run(workflow, synchronous=False)
        await dead.persist(lost, None, callback_url=None)
        stored = replace(dead.durable[lost.id].stored, phase=Phase.SENDING)
        assert await dead.store.advance(stored)
    clock.advance(LEASE + 1)
    alive = DurableRunsHarness("alive", predecessor=dead)
    upstream = BlockedUpstream(clock, DONE)
    own = alive.add_workflow(alive.harness.studio(), upstream)
    run = await alive.run_in_background(own, alive.new_run(own, synchronous=False, timeout=1e6))
    write = alive.store.finish

    async def slow(run_id: str, finish: FinalState) -> bool:
        await clock.sleep(2.0)
        return await write(run_id, finish)

    alive.store.finish = slow  # type: ignore[method-assign]  # it is slow, and the same otherwise
    watching = asyncio.create_task(alive.recovery.run_forever())
    longest = 0.0
    for _ in range(120):
        await clock.run_for(1.0)
        kept: StoredRun | None = await alive.store.get_run(run.id)
        assert kept is not None
        longest = max(longest, clock.now().timestamp() - kept.leased_until_at)
    watching.cancel()
    assert 0.0 == longest
    await alive.runs.close()


async def test_an_unexpected_error_does_not_end_the_recovery_loop() -> None:
    """R45: otherwise every lease of this replica would expire."""
    predecessor, run = await abandoned_run("queued", synchronous=False, timeout=1e6)
    replica, _ = successor_of(predecessor, STARTED, ENDED)
    adopt, errors = replica.store.adopt, [RuntimeError("CANARY")]

    async def failing_once(owner: str, **more: object) -> list[StoredRun]:
        if errors:
            raise errors.pop()
        return await adopt(owner, **more)  # type: ignore[arg-type]  # whatever it was

    replica.store.adopt = failing_once  # type: ignore[method-assign]  # it makes a mistake, once
    watching = asyncio.create_task(replica.recovery.run_forever())
    await yield_to_loop()
    watching.cancel()
    assert "succeeded" == await replica.stored_status(run)
    assert "internal_error" in [entry["event"] for entry in replica.log.entries]
