"""Dispatch at once: a run that its limits admit without a wait is stored as SENDING, in one write before its start."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from gateway.errors import StoreError
from gateway.limits.config import ResourceLimitsConfig
from gateway.runs.catalog import Workflow
from gateway.runs.durable.journal import DurableRun
from gateway.runs.model import RunRecord
from gateway.store.contract import FinalState, IdempotencyKey, IdempotencyRecord, Phase, StoredRun
from providers.contract import Call, Reply
from tests.runs.durable.durable_harness import (
    KEY,
    DurableRunsHarness,
    FailingStore,
    FrozenClock,
    yield_to_loop,
    yield_until,
)
from tests.runs.executor_harness import DONE, ExecutorHarness, ScriptedUpstream, upstream_of


class RecordingStore(FailingStore):
    """Store that records its writes: the method, and the phase and provider that the run has then."""

    writes: list[tuple[str, str, str]]

    async def create_run(self, run: StoredRun, key: IdempotencyKey | None) -> IdempotencyRecord | None:
        self.writes.append(("create", run.phase.name, run.provider))
        return await super().create_run(run, key)

    async def advance(self, run: StoredRun) -> bool:
        self.writes.append(("advance", run.phase.name, run.provider))
        return await super().advance(run)

    async def revert_to_queued(self, run: StoredRun) -> bool:
        self.writes.append(("revert", "QUEUED", run.provider))
        return await super().revert_to_queued(run)

    async def finish(self, run_id: str, finish: FinalState) -> bool:
        self.writes.append(("finish", "DONE", ""))
        return await super().finish(run_id, finish)


class ObservedUpstream(ScriptedUpstream):
    """An upstream that notes the stored phase of the only run with each call."""

    store: RecordingStore
    run_id: str
    phases: list[Phase]

    async def send(self, call: Call, deadline: float, traceparent: str = "") -> Reply:
        """See `Upstream.send`."""
        stored = await self.store.get_run(self.run_id)
        assert stored is not None
        self.phases.append(stored.phase)
        return await super().send(call, deadline, traceparent)


async def new_replica(*, concurrency: int = 100) -> tuple[DurableRunsHarness, RecordingStore]:
    """Return durable runs whose store records its writes."""
    replica = DurableRunsHarness(clock=FrozenClock())
    store = RecordingStore(replica.clock)
    store.writes = []
    limits = {name: ResourceLimitsConfig(concurrency=concurrency) for name in ("studio", "layer")}
    replica.harness = ExecutorHarness(clock=replica.clock, providers=limits)
    for part in (replica, replica.runs, replica.runs.completion, replica.runs._pending_deletes):
        part.store = store
    replica.runs.executor = replica.harness.executor
    await replica.open()
    return replica, store


async def submit(
    replica: DurableRunsHarness, workflow: Workflow, run: RunRecord, key: IdempotencyKey | None = KEY
) -> DurableRun:
    """Store a run that is executed at once."""
    durable = await replica.runs.persist(run, key, callback_url=None, workflow=workflow)
    assert isinstance(durable, DurableRun)
    return durable


@pytest.mark.parametrize("synchronous", [True, False])
async def test_one_write_precedes_the_start(synchronous: bool) -> None:  # noqa: FBT001 - a value
    replica, store = await new_replica()
    upstream = ObservedUpstream(replica.clock, [DONE])
    workflow = replica.add_workflow(replica.harness.studio(), upstream)
    run = replica.new_run(workflow, synchronous=synchronous)
    upstream.store, upstream.run_id, upstream.phases = store, run.id, []

    durable = await submit(replica, workflow, run)
    if synchronous:
        await replica.runs.run_and_wait(durable, workflow, "req_1")
    else:
        replica.runs.run_in_background(durable, workflow)
        await yield_until(lambda: ("finish", "DONE", "") in store.writes)
        await yield_to_loop()

    assert [("create", "SENDING", "studio"), ("finish", "DONE", "")] == store.writes
    assert [Phase.SENDING] == upstream.phases
    stored = await store.get_run(run.id)
    assert stored is not None
    assert ("succeeded", 1, 0) == (stored.status, stored.attempts, replica.harness.slots_in_use())


async def test_a_run_that_waits_for_a_limit_is_stored_as_queued() -> None:
    """A crash while it waits does not end it as `unknown`."""
    replica, store = await new_replica(concurrency=1)
    workflow = replica.harness.studio(DONE)
    first = await submit(replica, workflow, replica.new_run(workflow), None)
    second = await submit(replica, workflow, replica.new_run(workflow))
    waiting = asyncio.create_task(replica.runs.run_and_wait(second, workflow, "req_2"))
    await yield_to_loop()
    assert [("create", "SENDING", "studio"), ("create", "QUEUED", "studio")] == store.writes
    await replica.runs.run_and_wait(first, workflow, "req_1")
    await waiting
    assert [("finish", "DONE", ""), ("advance", "SENDING", "studio"), ("finish", "DONE", "")] == store.writes[2:]


async def test_a_shared_store_is_told_of_the_start_separately() -> None:
    """Another replica takes SENDING as the proof that the run was accepted, which one write alone is not."""
    replica, store = await new_replica()
    store.shared = True
    workflow = replica.harness.studio(DONE)
    run = await submit(replica, workflow, replica.new_run(workflow))
    await replica.runs.run_and_wait(run, workflow, "req_1")
    assert [("create", "QUEUED"), ("advance", "SENDING"), ("finish", "DONE")] == [write[:2] for write in store.writes]


async def test_a_replay_gives_its_admission_back() -> None:
    replica, _ = await new_replica(concurrency=1)
    workflow = replica.harness.studio(DONE)
    first = await submit(replica, workflow, replica.new_run(workflow))
    await replica.runs.run_and_wait(first, workflow, "req_1")
    replay = await replica.runs.persist(replica.new_run(workflow), KEY, callback_url=None, workflow=workflow)
    assert isinstance(replay, IdempotencyRecord)
    assert (first.record.id, 0, 1) == (replay.run_id, replica.harness.slots_in_use(), upstream_of(workflow).starts)


async def test_a_run_that_could_not_be_stored_gives_its_admission_back() -> None:
    replica, store = await new_replica()
    store.fail_before = {"create_run"}
    workflow = replica.harness.studio(DONE)
    with pytest.raises(StoreError):
        await submit(replica, workflow, replica.new_run(workflow))
    assert (0, []) == (replica.harness.slots_in_use(), upstream_of(workflow).sent)


async def test_a_shutdown_between_the_write_and_the_start_leaves_the_run_queued() -> None:
    """R98: nothing was sent, so the process that adopts the run starts it."""
    replica, store = await new_replica()
    workflow = replica.harness.studio(DONE)
    run = await submit(replica, workflow, replica.new_run(workflow, synchronous=False), None)
    replica.runs.run_in_background(run, workflow)
    await replica.runs.drain()
    stored = await store.get_run(run.record.id)
    assert stored is not None
    assert (Phase.QUEUED, [], 0) == (stored.phase, upstream_of(workflow).sent, replica.harness.slots_in_use())


async def test_a_closing_process_stores_new_runs_as_queued() -> None:
    replica, store = await new_replica()
    replica.runs.closing = True
    workflow = replica.harness.studio(DONE)
    await submit(replica, workflow, replica.new_run(workflow, synchronous=False), None)
    assert [("create", "QUEUED", "studio")] == store.writes


async def test_a_fallback_waits_as_queued() -> None:
    """The circuit opened during the write: nothing was sent, and a crash while the fallback waits must not say so."""
    replica, store = await new_replica()
    fallback = replica.harness.layer(Reply(200))
    workflow = replica.harness.studio(DONE, fallbacks=(fallback,))
    run = await submit(replica, workflow, replica.new_run(workflow))
    open_circuit(replica, workflow)
    await replica.runs.run_and_wait(run, workflow, "req_1")
    writes: list[tuple[str, str, str]] = [
        ("create", "SENDING", "studio"),
        ("revert", "QUEUED", "studio"),
        ("advance", "SENDING", "layer"),
    ]
    assert writes == store.writes[:3]
    assert (0, 1) == (upstream_of(workflow).starts, upstream_of(fallback).starts)


def open_circuit(replica: DurableRunsHarness, workflow: Workflow) -> None:
    """Open the circuit of a workflow."""
    breaker: Any = replica.harness.circuits.get(workflow.provider.name, workflow.catalog_key).breaker
    breaker._config = replace(breaker._config, min_failures=1)
    breaker._record_failure()
    assert breaker.retry_after() > 0
