"""Overrides by an operator: starts are suspended, refused, or never refused; what runs is polled on."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from gateway.limits.config import ClientLimitsConfig
from gateway.runs.resilience.circuit_breaker import BreakerConfig, CircuitBreaker, CircuitState, StartResult
from gateway.runs.resilience.override_follower import OVERRIDES_CHANGED, OverrideFollower
from gateway.runs.resilience.start_override import OverrideMode, StartOverride
from gateway.store.provider_override import ProviderOverride
from gateway.store.records import Phase, StoredRun
from providers.contract import Cause, Reply
from tests.runs.durable.durable_harness import BlockedUpstream, DurableRunsHarness
from tests.runs.executor_harness import (
    DONE,
    ENDED,
    STARTED,
    ExecutorHarness,
    ScriptedUpstream,
    ending_of_run,
    fault,
    upstream_of,
)
from tests.support.clock import ManualClock
from tests.support.virtual_clock import VirtualClock

SUSPENDED = ProviderOverride("studio", "suspended", "", 0.0)
CONFIG = BreakerConfig()
REFUSALS = {OverrideMode.SUSPENDED: "provider_suspended", OverrideMode.OPEN: "circuit_open"}


def test_a_circuit_closed_by_hand_never_refuses_and_still_counts() -> None:
    clock, override = ManualClock(), StartOverride(OverrideMode.CLOSED)
    breaker = CircuitBreaker(CONFIG, clock.monotonic, override=override)
    for _ in range(20):
        breaker.raise_if_open()
        breaker.record(StartResult.FAILURE, breaker.start())
        clock.advance(0.1)
    assert (CircuitState.OPEN, 0) == (breaker.state, breaker.retry_after())
    override.mode = None
    assert (None, 0) != (breaker.allow_start(), breaker.retry_after())
    assert breaker.allow_start() is None
    assert 0 < breaker.retry_after() <= CONFIG.cooldown


def test_a_circuit_closed_by_hand_notices_that_the_provider_recovers() -> None:
    """The trial run after the cool-down closes the circuit, so that nothing is refused once the override is undone."""
    clock, override = ManualClock(), StartOverride(OverrideMode.CLOSED)
    breaker = CircuitBreaker(CONFIG, clock.monotonic, override=override)
    for _ in range(CONFIG.min_failures):
        breaker.record(StartResult.FAILURE, breaker.start())
    clock.advance(CONFIG.cooldown)
    first, second = breaker.start(), breaker.start()
    assert CircuitState.HALF_OPEN is breaker.state
    breaker.record(StartResult.SUCCESS, first)
    breaker.record(StartResult.SUCCESS, second)
    override.mode = None
    assert (CircuitState.CLOSED, 0) == (breaker.state, breaker.retry_after())


@pytest.mark.parametrize("mode", REFUSALS)
async def test_nothing_is_sent_to_an_overridden_provider(mode: OverrideMode) -> None:
    """The refusal takes no quota, says when to ask again, and concerns the other workflows of the provider too."""
    harness = ExecutorHarness(client=ClientLimitsConfig(daily=3))
    workflows = [harness.studio(DONE), harness.studio(DONE, alias="second"), harness.studio(DONE, alias="studio/*")]
    other = harness.layer(STARTED, ENDED)
    harness.circuits.apply_overrides({"studio": mode})
    for workflow in workflows:
        record, error = await harness.run(workflow)
        assert error is not None
        assert (REFUSALS[mode], "not_run", 30) == (error.code, error.ending, error.retry_after)
        assert (0, 0) == (record.attempts, upstream_of(workflow).starts)
    assert (None, "succeeded", 1) == ending_of_run(await harness.run(other))
    harness.circuits.apply_overrides({})
    assert (None, "succeeded", 1) == ending_of_run(await harness.run(workflows[0]))
    assert (None, "succeeded", 1) == ending_of_run(await harness.run(workflows[1]))


async def test_a_run_falls_back_to_another_provider() -> None:
    harness = ExecutorHarness()
    fallback = harness.layer(STARTED, ENDED)
    workflow = harness.studio(DONE, fallbacks=(fallback,))
    harness.circuits.apply_overrides({"studio": OverrideMode.SUSPENDED})
    assert (None, "succeeded", 1) == ending_of_run(await harness.run(workflow))
    assert (0, 1) == (upstream_of(workflow).starts, upstream_of(fallback).starts)


async def test_a_start_that_could_be_retried_is_not() -> None:
    """The provider is suspended while the first start fails."""
    harness = ExecutorHarness()

    def suspend() -> Reply:
        harness.circuits.apply_overrides({"studio": OverrideMode.SUSPENDED})
        raise fault(Cause.UNREACHABLE)

    workflow = harness.studio(suspend, DONE)
    assert ("upstream_unreachable", "not_run", 1) == ending_of_run(await harness.run(workflow))


async def durable_harness() -> tuple[DurableRunsHarness, VirtualClock]:
    clock = VirtualClock()
    return await DurableRunsHarness(clock=clock).open(), clock


async def test_a_background_run_waits_and_starts_once_it_is_resumed() -> None:
    """As it stays QUEUED, a crash in between loses nothing; one fallback to the same provider is counted once."""
    harness, clock = await durable_harness()
    fallback = harness.harness.studio(DONE, alias="second")
    workflow = harness.add_workflow(harness.harness.studio(DONE, fallbacks=(fallback,)))
    harness.harness.circuits.apply_overrides({"studio": OverrideMode.SUSPENDED})
    run = await harness.run_in_background(workflow)
    await clock.run_for(50)
    stored = await harness.store.get_run(run.id)
    assert stored is not None
    assert (Phase.QUEUED, "queued", 0) == (stored.phase, stored.status, upstream_of(workflow).starts)
    assert 1 == harness.harness.metric_value("runward_fallbacks_total")
    harness.harness.circuits.apply_overrides({})
    await clock.run_for(2)
    assert ("succeeded", 1) == (await harness.stored_status(run), upstream_of(workflow).starts)
    assert 0 == upstream_of(fallback).starts


async def test_a_background_run_waits_no_longer_than_its_deadline() -> None:
    harness, clock = await durable_harness()
    workflow = harness.add_workflow(harness.harness.studio(DONE))
    harness.harness.circuits.apply_overrides({"studio": OverrideMode.SUSPENDED})
    run = await harness.run_in_background(workflow)
    await clock.run_for(58)
    assert "queued" == await harness.stored_status(run)
    await clock.run_for(2)
    document = await harness.store.get_document(run.id)
    assert document is not None
    assert b'"provider_suspended"' in document
    assert ("not_run", 0) == (await harness.stored_status(run), upstream_of(workflow).starts)


async def test_a_waiting_run_ends_at_its_start_before() -> None:
    harness, clock = await durable_harness()
    workflow = harness.add_workflow(harness.harness.studio(DONE))
    harness.harness.circuits.apply_overrides({"studio": OverrideMode.SUSPENDED})
    start_before = clock.now().timestamp() + 10.25
    run = await harness.run_in_background(
        workflow, harness.new_run(workflow, synchronous=False, start_before=start_before)
    )
    await clock.run_for(10)
    assert "queued" == await harness.stored_status(run)
    await clock.run_for(0.5)
    document = await harness.store.get_document(run.id)
    assert document is not None
    assert b'"expired"' in document
    assert ("not_run", 0) == (await harness.stored_status(run), upstream_of(workflow).starts)


async def test_a_waiting_run_can_be_cancelled() -> None:
    harness, clock = await durable_harness()
    workflow = harness.add_workflow(harness.harness.studio(DONE))
    harness.harness.circuits.apply_overrides({"studio": OverrideMode.SUSPENDED})
    run = await harness.run_in_background(workflow)
    await clock.run_for(10)
    await harness.cancellation.cancel("one", run.id)
    assert "not_run" == await harness.stored_status(run)
    harness.harness.circuits.apply_overrides({})
    await clock.run_for(5)
    assert 0 == upstream_of(workflow).starts


async def test_a_background_run_does_not_wait_for_a_circuit_that_was_opened_by_hand() -> None:
    """It ends as if the circuit had opened itself."""
    harness, clock = await durable_harness()
    workflow = harness.add_workflow(harness.harness.studio(DONE))
    harness.harness.circuits.apply_overrides({"studio": OverrideMode.OPEN})
    run = await harness.run_in_background(workflow)
    await clock.run_for(1)
    assert ("not_run", 0) == (await harness.stored_status(run), upstream_of(workflow).starts)


async def test_a_start_that_is_stored_but_not_sent_goes_back_to_queued() -> None:
    """The provider is suspended while SENDING is written: a crash must not end the waiting run as `unknown`."""
    harness, clock = await durable_harness()
    workflow = harness.add_workflow(harness.harness.studio(DONE))
    advance = harness.store.advance

    async def suspend_meanwhile(run: StoredRun, events: bytes = b"") -> bool:
        harness.harness.circuits.apply_overrides({"studio": OverrideMode.SUSPENDED})
        return await advance(run, events)

    harness.store.advance = suspend_meanwhile  # type: ignore[method-assign]
    run = await harness.run_in_background(workflow)
    await clock.run_for(10)
    stored = await harness.store.get_run(run.id)
    assert stored is not None
    assert (Phase.QUEUED, 0) == (stored.phase, upstream_of(workflow).starts)
    harness.store.advance = advance  # type: ignore[method-assign]
    harness.harness.circuits.apply_overrides({})
    await clock.run_for(2)
    assert ("succeeded", 1) == (await harness.stored_status(run), upstream_of(workflow).starts)


async def test_a_run_in_progress_is_polled_to_its_end() -> None:
    harness, clock = await durable_harness()
    upstream = BlockedUpstream(clock, STARTED, ENDED)
    run = await harness.run_in_background(harness.add_workflow(harness.harness.layer(), upstream))
    await clock.run_ready_tasks()
    harness.harness.circuits.apply_overrides({"layer": OverrideMode.SUSPENDED})
    upstream.unblocked.set()
    await clock.run_for(30)
    assert ("succeeded", 1) == (await harness.stored_status(run), upstream.starts)


async def test_the_next_process_does_not_start_the_run_either() -> None:
    """Its overrides are read before runs are adopted."""
    harness, clock = await durable_harness()
    workflow = harness.add_workflow(harness.harness.studio(DONE))
    await harness.store.set_override(SUSPENDED)
    await follower_of(harness).refresh()
    run = await harness.run_in_background(workflow)
    await clock.run_for(5)
    await harness.runs.close()
    await harness.store.renew_leases("me", 0.0)
    other = DurableRunsHarness("other", predecessor=harness)
    upstream = ScriptedUpstream(clock, (DONE,))
    other.add_workflow(other.harness.studio(), upstream)
    follower = follower_of(other)
    await follower.refresh()
    await other.recovery.adopt_expired_runs()
    await clock.run_for(5)
    assert ("queued", 0) == (await other.stored_status(run), upstream.starts)
    await other.store.remove_override("studio")
    await follower.refresh()
    await clock.run_for(2)
    assert ("succeeded", 1) == (await other.stored_status(run), upstream.starts)


def follower_of(replica: DurableRunsHarness) -> OverrideFollower:
    return OverrideFollower(replica.store, replica.harness.circuits, replica.clock, replica.runs.log)


def is_suspended(replica: DurableRunsHarness) -> bool:
    return replica.harness.circuits.get("studio", "any").breaker.retry_after() > 0


async def test_an_override_is_noticed_at_once_or_within_two_seconds() -> None:
    """At once if it is notified; else by the poll."""
    replica, clock = await durable_harness()
    task = asyncio.create_task(follower_of(replica).run_forever())
    await clock.run_for(3.3)
    await replica.store.set_override(SUSPENDED)
    await replica.store.notify(OVERRIDES_CHANGED)
    await clock.run_ready_tasks()
    assert is_suspended(replica)
    await clock.run_for(10)
    await replica.store.remove_override("studio")
    await clock.run_for(2)
    assert not is_suspended(replica)
    task.cancel()


async def test_the_last_overrides_apply_while_the_store_is_unavailable() -> None:
    replica, clock = await durable_harness()
    await replica.store.set_override(SUSPENDED)
    task = asyncio.create_task(follower_of(replica).run_forever())
    await clock.run_for(2)
    await replica.store.close()
    await clock.run_for(60)
    assert is_suspended(replica)
    await replica.store.open()
    await replica.store.remove_override("studio")
    await clock.run_for(2)
    assert not is_suspended(replica)
    task.cancel()


async def test_a_slow_answer_of_the_store_does_not_undo_a_later_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """The override that a request sets while the follower reads is in force once the request is answered, and stays."""
    replica, clock = await durable_harness()
    follower, answered, list_overrides = follower_of(replica), asyncio.Event(), replica.store.list_overrides

    async def list_slowly() -> list[ProviderOverride]:
        found = await list_overrides()
        await answered.wait()
        return found

    monkeypatch.setattr(replica.store, "list_overrides", list_slowly)
    slow = asyncio.create_task(follower.refresh())
    await clock.run_ready_tasks()
    monkeypatch.setattr(replica.store, "list_overrides", list_overrides)
    await replica.store.set_override(SUSPENDED)
    fast = asyncio.create_task(follower.refresh())
    await clock.run_ready_tasks()
    answered.set()
    await asyncio.gather(slow, fast)
    assert is_suspended(replica)


async def test_a_mode_of_another_version_is_left_out_and_does_not_hide_the_others() -> None:
    replica, _ = await durable_harness()
    await replica.store.set_override(SUSPENDED)
    await replica.store.set_override(replace(SUSPENDED, provider="layer", mode="slowed"))
    await follower_of(replica).refresh()
    assert is_suspended(replica)
    assert 0 == replica.harness.circuits.get("layer", "any").breaker.retry_after()


async def test_the_metric_shows_the_override_while_it_applies() -> None:
    harness = ExecutorHarness()
    shown = []
    for modes in ({"studio": OverrideMode.SUSPENDED}, {"studio": OverrideMode.OPEN}, {}):
        harness.circuits.apply_overrides(modes)
        shown.append(
            [
                harness.metric_value("runward_provider_override", provider="studio", mode=mode.value)
                for mode in OverrideMode
            ]
        )
    assert [[1, 0, 0], [0, 1, 0], [0, 0, 0]] == shown
