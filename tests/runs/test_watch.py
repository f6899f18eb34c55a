"""How a run is watched where PromptLayer calls when it has ended: seen at once, and asked about seldom."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import pytest
import structlog

from gateway.access.limits import Rate, SharedLimits
from gateway.metrics import Metrics
from gateway.runs.catalog import Workflow
from gateway.runs.hints import Hints
from gateway.runs.polling import Rhythm, Schedule
from gateway.runs.record import RunRecord
from gateway.store.memory import MemoryStore
from tests.access.virtual_clock import VirtualClock, settle
from tests.runs.scripted import ACCEPTED, ENDED, RUNNING, STARTED, Act, World, door_of, polled

USUAL = 10.0


@dataclass
class Scene:
    """A workflow whose runs usually take ten seconds, at a provider whose hints come (or did not, the last time)."""

    world: World
    clock: VirtualClock
    hints: Hints

    @classmethod
    async def set(cls, *, hints_come: bool = True, **limits: SharedLimits) -> Scene:
        clock = VirtualClock()
        store = MemoryStore(clock)
        await store.open()
        hints = Hints("https://us.example.com", store, clock=clock, metrics=Metrics(), log=structlog.get_logger())
        await hints.open()
        scene = cls(
            World(clock=clock, hints=hints, schedule=Schedule(0.25, 60.0), providers=limits or None), clock, hints
        )
        for _ in range(5):
            scene.rhythm.learn(USUAL, USUAL)
        scene.rhythm.hints_come = hints_come
        return scene

    @property
    def rhythm(self) -> Rhythm:
        return self.world.means.schedule.of("layer", "layer")

    async def run(
        self, *acts: Act, hinted_at: Sequence[float] = (), allowed: float = 60.0
    ) -> tuple[RunRecord, Workflow]:
        """Run it; hints come so many seconds after the start."""
        workflow, record = self.world.layer(*acts), self.world.order(timeout=allowed)
        began = self.clock.monotonic()
        running = asyncio.create_task(self.world.run(workflow, record))
        for at in hinted_at:
            await self.clock.run_for(at - (self.clock.monotonic() - began))
            await self.hints.receive(self.hints.url(record.id).rpartition("/")[2])
            await settle()
        _, problem = await self.clock.run_until_done(running)
        assert problem is None
        return record, workflow


async def test_a_run_is_asked_about_once_and_at_the_moment_of_its_hint() -> None:
    scene = await Scene.set()
    record, workflow = await scene.run(ACCEPTED, ENDED, hinted_at=[11.5])
    assert ("succeeded", [11.5]) == (record.status, polled(door_of(workflow)))


async def test_the_start_carries_the_url_of_its_own_run() -> None:
    scene = await Scene.set()
    record, workflow = await scene.run(ACCEPTED, ENDED, hinted_at=[1])
    start, *_ = door_of(workflow).sent[0]
    assert isinstance(start.json, dict)
    assert scene.hints.url(record.id) == start.json["callback_url"]


async def test_a_hint_that_does_not_come_is_not_waited_for() -> None:
    """It is asked about when it is late, and the next run as if there were no hints."""
    scene = await Scene.set()
    _, workflow = await scene.run(ACCEPTED, RUNNING, ENDED)
    assert pytest.approx([15.0, 22.5], abs=0.1) == polled(door_of(workflow))
    assert not scene.rhythm.hints_come


async def test_hints_are_not_relied_on_before_one_came() -> None:
    """So a gateway that PromptLayer can not reach sees results as soon as one without hints."""
    scene = await Scene.set(hints_come=False)
    plain = World(clock=VirtualClock(), schedule=Schedule(0.25, 60.0))
    for _ in range(5):
        plain.means.schedule.of("layer", "layer").learn(USUAL, USUAL)
    expected = plain.layer(STARTED, RUNNING, RUNNING, ENDED)
    await plain.clock.run_until_done(plain.run(expected))  # type: ignore[attr-defined]  # it is a VirtualClock
    _, workflow = await scene.run(ACCEPTED, RUNNING, RUNNING, ENDED)
    assert polled(door_of(expected)) == polled(door_of(workflow))


async def test_one_hint_that_came_is_enough_to_rely_on_the_next() -> None:
    scene = await Scene.set(hints_come=False)
    await scene.run(ACCEPTED, ENDED, hinted_at=[5])
    assert scene.rhythm.hints_come


async def test_a_hint_that_came_too_early_costs_one_question_and_a_second_hint_none() -> None:
    """Whoever has the token can not make us ask again and again: from then on the rhythm decides."""
    scene = await Scene.set()
    repeated = [2.0, 2.5, 3.0, 3.5, 4.0]
    _, workflow = await scene.run(ACCEPTED, RUNNING, RUNNING, ENDED, hinted_at=repeated)
    first, second, *_ = polled(door_of(workflow))
    assert 2.0 == first
    assert second > 8


async def test_a_provider_that_did_not_promise_is_asked_as_always() -> None:
    """201 in place of 202: it has started the run, and taken no notice of the URL."""
    scene = await Scene.set()
    _, workflow = await scene.run(STARTED, ENDED)
    assert polled(door_of(workflow))[0] < USUAL


async def test_a_hint_about_a_run_that_was_taken_up_again_is_used() -> None:
    """Its hint may have come while nobody was there, so it is asked about as always, and when a hint comes."""
    scene = await Scene.set()
    workflow, record = scene.world.layer(RUNNING, ENDED), scene.world.order()
    record.provider_run_id = "787"
    running = asyncio.create_task(scene.world.engine.follow(record, workflow))
    await scene.clock.run_for(3)
    await scene.hints.receive(scene.hints.url(record.id).rpartition("/")[2])
    await settle()
    assert running.done()
    assert ("succeeded", 2) == (record.status, len(door_of(workflow).sent))


async def test_a_hint_tells_how_long_the_run_took() -> None:
    """Without it, all that is known of a run that was asked about once is that it took no longer."""
    scene = await Scene.set()
    expected = Rhythm(0.25, 60)
    for duration in (*[USUAL] * 5, 12.0):
        expected.learn(duration, duration)
    await scene.run(ACCEPTED, ENDED, hinted_at=[12.0])
    assert (expected.mean, expected.variance) == (scene.rhythm.mean, scene.rhythm.variance)


async def test_a_question_after_a_hint_passes_the_providers_limits() -> None:
    """It counts like every other, so a flood of hints is no flood at the provider."""
    scene = await Scene.set(layer=SharedLimits(rate=Rate(1, 10.0), burst=1))
    _, workflow = await scene.run(ACCEPTED, ENDED, hinted_at=[4])
    assert pytest.approx([10.0]) == polled(door_of(workflow))


async def test_the_last_question_comes_before_the_deadline_whatever_was_promised() -> None:
    scene = await Scene.set()
    record, workflow = await scene.run(ACCEPTED, ENDED, allowed=12.0)
    assert "succeeded" == record.status
    assert pytest.approx([11.7]) == polled(door_of(workflow))
