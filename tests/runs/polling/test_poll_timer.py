"""Poller of runs with poll hints: the end is seen at once, with few polls."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass

import pytest
import structlog

from gateway.limits.config import RateLimit, ResourceLimitsConfig
from gateway.observability.metrics import Metrics
from gateway.runs.catalog import Workflow
from gateway.runs.model import RunRecord
from gateway.runs.polling.provider_hints import ProviderHints
from gateway.runs.polling.schedule import DurationEstimate, PollSchedule
from gateway.store.memory.store import MemoryStore
from tests.runs.executor_harness import (
    ACCEPTED,
    ENDED,
    RUNNING,
    STARTED,
    ExecutorHarness,
    ScriptStep,
    poll_times,
    upstream_of,
)
from tests.support.virtual_clock import VirtualClock, run_ready_tasks

USUAL_DURATION = 10.0


@dataclass
class PollerHarness:
    """Workflow with runs of ten seconds, at a provider whose last hint was received or missing."""

    harness: ExecutorHarness
    clock: VirtualClock
    poll_hints: ProviderHints

    @classmethod
    async def create(cls, *, hints_reliable: bool = True, **limits: ResourceLimitsConfig) -> PollerHarness:
        clock = VirtualClock()
        store = MemoryStore(clock)
        await store.open()
        poll_hints = ProviderHints(
            "https://us.example.com", b"s", store, clock=clock, metrics=Metrics(), log=structlog.get_logger()
        )
        harness = cls(
            ExecutorHarness(
                clock=clock, poll_hints=poll_hints, poll_schedule=PollSchedule(0.25, 60.0), providers=limits or None
            ),
            clock,
            poll_hints,
        )
        for _ in range(5):
            harness.estimate.record_duration(USUAL_DURATION, USUAL_DURATION)
        harness.estimate.hints_reliable = hints_reliable
        return harness

    @property
    def estimate(self) -> DurationEstimate:
        return self.harness.context.poll_schedule.estimate_for("layer", "layer")

    async def run(
        self,
        *script: ScriptStep,
        hint_times: Sequence[float] = (),
        timeout: float = 60.0,  # noqa: ASYNC109 - of the run
    ) -> tuple[RunRecord, Workflow]:
        """Execute a run; hints arrive at these seconds after the start."""
        workflow, record = self.harness.layer(*script), self.harness.new_run(timeout=timeout)
        started = self.clock.monotonic()
        running = asyncio.create_task(self.harness.run(workflow, record))
        for at in hint_times:
            await self.clock.run_for(at - (self.clock.monotonic() - started))
            await self.poll_hints.receive(self.poll_hints.notify_url(record.id).rpartition("/")[2])
            await run_ready_tasks()
        _, problem = await self.clock.run_until_done(running)
        assert problem is None
        return record, workflow


async def test_a_run_is_polled_once_at_the_time_of_its_hint() -> None:
    harness = await PollerHarness.create()
    record, workflow = await harness.run(ACCEPTED, ENDED, hint_times=[11.5])
    assert ("succeeded", [11.5]) == (record.status, poll_times(upstream_of(workflow)))


async def test_the_start_carries_the_url_of_its_own_run() -> None:
    harness = await PollerHarness.create()
    record, workflow = await harness.run(ACCEPTED, ENDED, hint_times=[1])
    start, *_ = upstream_of(workflow).sent[0]
    assert isinstance(start.json, dict)
    assert harness.poll_hints.notify_url(record.id) == start.json["callback_url"]


async def test_a_missing_hint_is_not_waited_for() -> None:
    """The run is polled when the hint is late, and the next run as if there were no hints."""
    harness = await PollerHarness.create()
    _, workflow = await harness.run(ACCEPTED, RUNNING, ENDED)
    assert pytest.approx([15.0, 22.5], abs=0.1) == poll_times(upstream_of(workflow))
    assert not harness.estimate.hints_reliable


async def test_hints_are_not_relied_on_before_the_first_one() -> None:
    """If PromptLayer cannot reach the gateway, polls are as frequent as without hints."""
    harness = await PollerHarness.create(hints_reliable=False)
    plain = ExecutorHarness(clock=VirtualClock(), poll_schedule=PollSchedule(0.25, 60.0))
    for _ in range(5):
        plain.context.poll_schedule.estimate_for("layer", "layer").record_duration(USUAL_DURATION, USUAL_DURATION)
    expected = plain.layer(STARTED, RUNNING, RUNNING, ENDED)
    await plain.clock.run_until_done(plain.run(expected))  # type: ignore[attr-defined]  # it is a VirtualClock
    _, workflow = await harness.run(ACCEPTED, RUNNING, RUNNING, ENDED)
    assert poll_times(upstream_of(expected)) == poll_times(upstream_of(workflow))


async def test_one_received_hint_is_enough_to_rely_on_the_next() -> None:
    harness = await PollerHarness.create(hints_reliable=False)
    await harness.run(ACCEPTED, ENDED, hint_times=[5])
    assert harness.estimate.hints_reliable


async def test_an_early_hint_causes_one_poll_and_further_hints_none() -> None:
    """The holder of a token cannot cause more polls: after the first hint the schedule decides."""
    harness = await PollerHarness.create()
    repeated = [2.0, 2.5, 3.0, 3.5, 4.0]
    _, workflow = await harness.run(ACCEPTED, RUNNING, RUNNING, ENDED, hint_times=repeated)
    first, second, *_ = poll_times(upstream_of(workflow))
    assert 2.0 == first
    assert second > 8


async def test_a_provider_without_promised_hint_is_polled_as_usual() -> None:
    """201 instead of 202: the run was started, and the URL ignored."""
    harness = await PollerHarness.create()
    _, workflow = await harness.run(STARTED, ENDED)
    assert poll_times(upstream_of(workflow))[0] < USUAL_DURATION


async def test_a_hint_for_an_adopted_run_is_used() -> None:
    """The hint may have been sent while no process ran: the run is polled on schedule, and after a hint."""
    harness = await PollerHarness.create()
    workflow, record = harness.harness.layer(RUNNING, ENDED), harness.harness.new_run()
    record.provider_run_id = "787"
    running = asyncio.create_task(harness.harness.executor.follow(record, workflow))
    await harness.clock.run_for(3)
    await harness.poll_hints.receive(harness.poll_hints.notify_url(record.id).rpartition("/")[2])
    await run_ready_tasks()
    assert running.done()
    assert ("succeeded", 2) == (record.status, len(upstream_of(workflow).sent))


async def test_a_hint_determines_the_measured_duration() -> None:
    """Without it, a run with one poll has only an upper bound of its duration."""
    harness = await PollerHarness.create()
    expected = DurationEstimate(0.25, 60)
    for duration in (*[USUAL_DURATION] * 5, 12.0):
        expected.record_duration(duration, duration)
    await harness.run(ACCEPTED, ENDED, hint_times=[12.0])
    assert (expected.mean, expected.variance) == (harness.estimate.mean, harness.estimate.variance)


async def test_a_poll_after_a_hint_passes_the_limits_of_the_provider() -> None:
    """It counts like any poll, so many hints cannot overload the provider."""
    harness = await PollerHarness.create(layer=ResourceLimitsConfig(rate=RateLimit(1, 10.0), burst=1))
    _, workflow = await harness.run(ACCEPTED, ENDED, hint_times=[4])
    assert pytest.approx([10.0]) == poll_times(upstream_of(workflow))


async def test_the_last_poll_is_made_before_the_deadline_despite_a_promised_hint() -> None:
    harness = await PollerHarness.create()
    record, workflow = await harness.run(ACCEPTED, ENDED, timeout=12.0)
    assert "succeeded" == record.status
    assert pytest.approx([11.7]) == poll_times(upstream_of(workflow))


async def test_a_run_that_ended_while_it_was_not_polled_teaches_no_duration() -> None:
    """It is found ended at the first poll, after a crash, say."""
    harness = ExecutorHarness()
    record = harness.new_run()
    record.provider_run_id = "787"
    workflow = harness.layer(ENDED)
    await harness.executor.follow(record, workflow)
    estimate = harness.context.poll_schedule.estimate_for("layer", workflow.alias)
    assert ("succeeded", 0) == (record.status, estimate.samples)


async def test_the_duration_of_a_run_that_is_polled_on_counts_from_its_start() -> None:
    """Not from its deadline, at which the polls after the response began."""
    harness = ExecutorHarness()
    record = harness.new_run()
    record.provider_run_id = "787"
    harness.clock.advance(60)
    workflow = harness.layer(RUNNING, ENDED)
    await harness.executor.follow(record, workflow)
    estimate = harness.context.poll_schedule.estimate_for("layer", workflow.alias)
    assert 1 == estimate.samples
    assert estimate.mean > math.log(59)
