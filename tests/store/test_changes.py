"""Who waits for a run is woken when it changes, and nobody else; nothing is kept of those who left."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from gateway.store.changes import Changes
from tests.access.virtual_clock import VirtualClock, settle

IDS = ("run_1", "run_2")


class World:
    """Changes, their clock, and who waits."""

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.changes = Changes(self.clock)

    async def waiter(self, ids: Sequence[str] = IDS, seconds: float = 30) -> asyncio.Task[None]:
        """Somebody who waits by now."""
        task = asyncio.create_task(self.changes.wait(ids, seconds))
        await settle()
        return task

    def empty(self) -> bool:
        """Whether nobody is remembered as waiting, and no timer runs for nobody."""
        return not self.changes._waiting and len(asyncio.all_tasks()) == 1


@pytest.fixture
def world() -> World:
    return World()


async def test_all_who_wait_for_a_run_are_woken(world: World) -> None:
    waiters = [await world.waiter(), await world.waiter(["run_2"]), await world.waiter(["run_1"])]
    world.changes.tell("run_2")
    await settle()
    assert [True, True, False] == [waiter.done() for waiter in waiters]
    await world.clock.run_for(30)
    assert waiters[2].done()
    assert world.empty()


async def test_everybody_is_woken_when_any_run_may_have_changed(world: World) -> None:
    waiters = [await world.waiter(), await world.waiter(["run_3"])]
    world.changes.tell_all()
    await settle()
    assert [True, True] == [waiter.done() for waiter in waiters]
    assert world.empty()


async def test_a_wait_ends_with_its_time(world: World) -> None:
    waiter = await world.waiter()
    await world.clock.run_for(29.9)
    assert not waiter.done()
    await world.clock.run_for(0.1)
    assert (True, True) == (waiter.done(), world.empty())


@pytest.mark.parametrize("seconds", [0, -1])
async def test_no_time_is_no_wait(world: World, seconds: float) -> None:
    waiter = await world.waiter(seconds=seconds)
    assert (True, True) == (waiter.done(), world.empty())


async def test_who_leaves_leaves_no_trace(world: World) -> None:
    """R32: a client that hangs up."""
    waiter, other = await world.waiter(), await world.waiter(["run_1"])
    waiter.cancel()
    await settle()
    assert waiter.cancelled()
    assert {"run_1"} == set(world.changes._waiting)
    world.changes.tell("run_1")
    await settle()
    assert (True, True) == (other.done(), world.empty())


@pytest.mark.parametrize(("before", "lasts"), [(0.0, 0.1), (0.9, 0.1), (1.0, 30.0), (100.0, 30.0)])
async def test_just_after_a_change_a_wait_is_short(world: World, before: float, lasts: float) -> None:
    """It may be the one that the reader missed."""
    world.changes.tell("run_1")
    await world.clock.run_for(before)
    waiter = await world.waiter()
    await world.clock.run_for(lasts - 0.01)
    assert not waiter.done()
    await world.clock.run_for(0.01)
    assert waiter.done()


async def test_another_runs_change_shortens_nothing(world: World) -> None:
    world.changes.tell("run_3")
    waiter = await world.waiter()
    await world.clock.run_for(29)
    assert not waiter.done()
    waiter.cancel()


async def test_changes_are_remembered_for_a_second(world: World) -> None:
    """However many there are, and however often one run changes."""
    for number in range(1000):
        world.changes.tell(f"run_{number}")
        world.changes.tell("run_0")
        world.clock.advance(0.01)
    assert len(world.changes._fresh) <= 102
    assert "run_0" in world.changes._fresh
