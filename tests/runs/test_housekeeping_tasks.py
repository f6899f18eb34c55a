"""Background tasks: their shutdown leaves runs to other replicas at once."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gateway.audit.chain import seal
from gateway.auth.stored_keys.directory import KeyDirectory
from gateway.auth.stored_keys.follower import KeyFollower
from gateway.clock import Clock, format_rfc3339
from gateway.observability.metrics import Metrics
from gateway.outbound.webhook.egress_policy import EgressPolicy
from gateway.outbound.webhook.sender import WebhookSender
from gateway.runs.budgets.keeper import BudgetKeeper
from gateway.runs.budgets.settlement import Settler
from gateway.runs.budgets.sweep import BudgetSweep
from gateway.runs.bulk_replays.runner import BulkReplayRunner
from gateway.runs.callbacks.dispatcher import CallbackDispatcher
from gateway.runs.catalog import Catalog
from gateway.runs.durable.activity import ActivityReporter
from gateway.runs.history import HistoryRecorder
from gateway.runs.housekeeping_tasks import AuditLimits, HousekeepingTasks
from gateway.runs.resilience.override_follower import OverrideFollower
from gateway.runs.run_replay import RunReplayer
from gateway.store.audit import GENESIS, AuditFilter
from gateway.store.contract import StoreUnavailable
from gateway.store.records import Delivery, StoredRun
from tests.audit.samples import entry
from tests.runs.durable.durable_harness import LEASE, BlockedUpstream, DurableRunsHarness, yield_to_loop, yield_until
from tests.runs.executor_harness import DONE, ENDED, STARTED, ScriptedUpstream, upstream_of
from tests.support.virtual_clock import VirtualClock


def background_of(replica: DurableRunsHarness) -> HousekeepingTasks:
    clock: Clock = replica.clock
    courier = WebhookSender(EgressPolicy((), own_addresses=list), clock, user_agent="test")
    callbacks = CallbackDispatcher(replica.store, courier, [], [0.0], clock, Metrics(), replica.runs.log)
    follower = OverrideFollower(replica.store, replica.harness.circuits, clock, replica.runs.log)
    log = replica.runs.log
    history = HistoryRecorder(replica.store, clock, log, lambda _: None)
    activity = ActivityReporter(replica.runs, replica.store, clock, log)
    replayer = RunReplayer(replica.runs, Catalog(replica.workflows, {}), clock, 7 * 86400.0)
    replays = BulkReplayRunner(replica.store, replayer, lambda _: None, clock, log)
    keys = KeyFollower(replica.store, KeyDirectory(clock), dict, clock, Metrics(), log)
    settler = Settler(replica.store.budgets, clock, log, lambda: None)
    keeper = BudgetKeeper(replica.store.budgets, settler, clock, Metrics(), log)
    budgets = BudgetSweep(keeper, replica.store, clock, Metrics(), log)
    tasks = (replica.recovery, replica.cancellation, callbacks, follower, keys, history, activity, replays, budgets)
    return HousekeepingTasks(
        replica.runs, replica.store, *tasks, clock, log, retention=60.0, audit_limits=AuditLimits(3600.0, 100)
    )


async def test_a_stopping_replica_releases_its_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """R98: another replica adopts them at once, before the lease expires; no second start."""
    leaving = await DurableRunsHarness("leaving").open()
    monkeypatch.setattr(leaving.store, "close", yield_to_loop)  # for others it stays open
    upstream = BlockedUpstream(leaving.clock)
    run = await leaving.run_in_background(leaving.add_workflow(leaving.harness.layer(), upstream))
    leaving.runs.closing = True  # before anything is sent
    await yield_to_loop()
    await background_of(leaving).close()
    other = DurableRunsHarness("other", predecessor=leaving)
    successor_upstream = ScriptedUpstream(other.clock, (STARTED, ENDED))
    other.add_workflow(other.harness.layer(), successor_upstream)
    await other.recovery.adopt_expired_runs()
    await yield_to_loop()
    assert ("succeeded", 0, 1) == (await other.stored_status(run), upstream.starts, successor_upstream.starts)


async def test_a_running_replica_is_notified_when_another_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    """R98: it scans then, in addition to its schedule, and continues to renew leases."""
    clock = VirtualClock()
    leaving = await DurableRunsHarness("leaving", clock=clock).open()
    monkeypatch.setattr(leaving.store, "close", yield_to_loop)  # for others it stays open
    run = await leaving.run_in_background(leaving.add_workflow(leaving.harness.layer(), BlockedUpstream(clock)))
    leaving.runs.closing = True  # before anything is sent
    await yield_to_loop()
    other = DurableRunsHarness("other", predecessor=leaving)
    successor_upstream = ScriptedUpstream(clock, (STARTED, ENDED))
    other.add_workflow(other.harness.layer(), successor_upstream)
    watching = asyncio.create_task(other.recovery.run_forever())
    await clock.run_for(LEASE / 3 - 5)
    assert 0 == successor_upstream.starts
    await background_of(leaving).close()
    await clock.run_for(1)
    stored = await other.store.get_run(run.id)
    assert stored is not None
    assert ("other", 1) == (stored.owner, successor_upstream.starts)
    watching.cancel()


async def test_an_unavailable_store_does_not_block_the_stop() -> None:
    """Repeated calls have no effect."""
    replica = await DurableRunsHarness().open()
    replica.add_workflow(replica.harness.studio(DONE))
    background = background_of(replica)
    await replica.store.close()
    await background.close()
    await background.close()


async def test_a_new_retention_applies_from_the_next_purge_on() -> None:
    """R100."""
    replica = await DurableRunsHarness().open()
    workflow = replica.add_workflow(replica.harness.studio(DONE))
    run = await replica.run_in_background(workflow)
    await yield_to_loop()
    assert "succeeded" == await replica.stored_status(run)
    replica.clock.advance(61)
    background = background_of(replica)
    for retention, kept in ((3600.0, True), (60.0, False)):
        background.reconfigure(retention, AuditLimits(3600.0, 100))
        forgetting = asyncio.create_task(background._purge_periodically())
        await yield_to_loop(5)
        forgetting.cancel()
        assert kept == (await replica.store.get_run(run.id) is not None)


async def test_audit_records_have_a_retention_of_their_own() -> None:
    """R100: that of runs does not matter, and a new one applies from the next purge on."""
    replica = await DurableRunsHarness().open()
    record = seal(entry(1).members(format_rfc3339(replica.clock.now()), "x"), GENESIS)
    await replica.store.audit.append([record], GENESIS)
    replica.clock.advance(1800)
    background = background_of(replica)
    for retention, kept in ((3600.0, True), (600.0, False)):
        background.reconfigure(60.0, AuditLimits(retention, 100))
        forgetting = asyncio.create_task(background._purge_periodically())
        await yield_to_loop(5)
        forgetting.cancel()
        assert kept == bool((await replica.store.audit.list(AuditFilter({}))).records)


async def test_a_store_failure_during_adoption_stops_no_start() -> None:
    """R49: adopted runs continue; the others are found later."""
    predecessor = await DurableRunsHarness("dead").open()
    workflow = predecessor.add_workflow(predecessor.harness.studio(DONE))
    for _ in range(150):
        await predecessor.persist(
            predecessor.new_run(workflow, synchronous=False, timeout=1e6), None, callback_url=None
        )
    predecessor.clock.advance(LEASE + 1)
    replica = DurableRunsHarness("next", predecessor=predecessor)
    replica.add_workflow(replica.harness.studio(DONE))
    adopt, batches = replica.store.adopt, 0

    async def worse(owner: str, **more: Any) -> list[StoredRun]:
        nonlocal batches
        batches += 1
        if batches == 2:
            raise StoreUnavailable
        return await adopt(owner, **more)

    replica.store.adopt = worse  # type: ignore[method-assign]  # it fails once
    background = background_of(replica)
    await background.start()
    await yield_until(lambda: upstream_of(replica.workflows["studio"]).starts == 150)
    await yield_to_loop(300)
    await background.close()


async def test_an_unexpected_error_does_not_end_the_callback_deliveries() -> None:
    """R55: later callbacks are delivered."""
    replica = await DurableRunsHarness().open()
    background = background_of(replica)
    background.dispatcher.signing_keys = [b"k" * 32]
    due: list[object] = [RuntimeError("CANARY"), [], []]

    async def failing_once(**_: object) -> list[Delivery]:
        found = due.pop(0) if due else []
        if isinstance(found, Exception):
            raise found
        return []

    replica.store.take_due_callbacks = failing_once  # type: ignore[method-assign]  # it makes a mistake, once
    delivering = asyncio.create_task(background.dispatcher.run_forever())
    await yield_until(lambda: not due)
    delivering.cancel()
    [error_entry] = [entry for entry in replica.log.entries if entry["event"] == "internal_error"]
    assert "CANARY" not in str(error_entry)
