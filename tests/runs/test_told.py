"""Nothing of a run can be heard before its client has the answer that names it, nor is it kept waiting for ever."""

from __future__ import annotations

import asyncio

from gateway.clock import SystemClock
from gateway.runs.told import Told
from tests.manual_clock import ManualClock
from tests.runs.kept import turns, until


class Frozen(ManualClock):
    """Time does not pass by itself."""

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        await asyncio.Event().wait()


async def begun(told: Told) -> tuple[list[str], asyncio.Task[None]]:
    happened: list[str] = []

    async def begin() -> None:
        happened.append("begun")

    task = asyncio.create_task(told.before(begin))
    await turns()
    return happened, task


async def test_it_begins_when_the_answer_was_written() -> None:
    told = Told(Frozen())
    happened, task = await begun(told)
    assert [] == happened
    told.done()
    await task
    assert ["begun"] == happened


async def test_it_begins_after_a_second_where_the_client_has_gone() -> None:
    clock = ManualClock()
    happened, task = await begun(Told(clock))
    await task
    assert (["begun"], [1.0]) == (happened, clock.slept)


async def test_an_answer_that_was_written_before_is_not_waited_for() -> None:
    told = Told(Frozen())
    told.done()
    happened, task = await begun(told)
    await task
    assert ["begun"] == happened


async def test_who_is_cancelled_leaves_nothing_behind() -> None:
    """The process stops: the run is in the store."""
    before = len(asyncio.all_tasks())
    happened, task = await begun(Told(SystemClock()))
    task.cancel()
    await until(lambda: len(asyncio.all_tasks()) == before)
    assert (True, []) == (task.cancelled(), happened)
