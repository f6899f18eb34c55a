"""Pending deletes: a run that was reported as not run is never executed, and no other run is deleted."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from gateway.errors import RunError
from gateway.store.contract import StoreUnavailable
from gateway.store.records import IdempotencyKey, IdempotencyRecord, StoredRun
from tests.runs.durable.durable_harness import BlockedUpstream, DurableRunsHarness, yield_to_loop, yield_until
from tests.runs.executor_harness import DONE, upstream_of


async def test_a_refused_run_is_deleted_before_another_replica_can_start_it() -> None:
    """R54: the client got `not_run`, and the process shuts down before the delete was confirmed."""
    replica = await DurableRunsHarness().open()
    workflow = replica.add_workflow(replica.harness.studio(DONE))
    run = replica.new_run(workflow, synchronous=False)
    replica.store.fail_after = {"create_run"}
    with pytest.raises(RunError, match="store_unavailable"):
        await replica.runs.persist(run, None, callback_url=None)
    assert "queued" == await replica.stored_status(run)
    await replica.runs.close()
    await replica.store.renew_leases("me", 0.0)
    other = DurableRunsHarness("other", predecessor=replica)
    other.add_workflow(other.harness.studio(DONE))
    await other.recovery.adopt_expired_runs()
    await yield_to_loop()
    assert (None, 0) == (await replica.stored_status(run), upstream_of(other.workflows["studio"]).starts)


async def test_a_run_stored_by_another_request_is_not_deleted() -> None:
    """R47: two requests for the same id at the same time: one is accepted, the acceptance of the other is unknown."""
    replica = await DurableRunsHarness().open()
    upstream = BlockedUpstream(replica.clock, DONE)
    workflow = replica.add_workflow(replica.harness.studio(), upstream)
    first, second = (replica.new_run(workflow, synchronous=False) for _ in range(2))
    second.id = first.id
    go = asyncio.Event()
    begin = replica.store.create_run
    tries = 0

    async def slow(run: StoredRun, key: IdempotencyKey | None, tags: Sequence[str] = ()) -> IdempotencyRecord | None:
        nonlocal tries
        tries += 1
        if tries == 1:  # it is held up on its way, and given up
            await go.wait()
            raise StoreUnavailable
        return await begin(run, key, tags)

    replica.store.create_run = slow  # type: ignore[method-assign]  # the first one is
    refused = asyncio.create_task(replica.runs.persist(first, None, callback_url=None))
    await yield_to_loop()
    await replica.run_in_background(workflow, second)
    await yield_until(lambda: bool(upstream.sent))
    go.set()
    with pytest.raises(RunError, match="store_unavailable"):
        await refused
    await yield_to_loop()
    assert "running" == await replica.stored_status(second)
    upstream.unblocked.set()
    await yield_until(lambda: second.finished_at is not None)
    await yield_to_loop()
    assert "succeeded" == await replica.stored_status(second)
