"""Change notifications: only tasks that wait for the changed run are woken; cancelled waits leave nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from gateway.store.notifications import ChangeNotifier
from tests.support.virtual_clock import VirtualClock, run_ready_tasks

IDS = ("run_1", "run_2")


class NotifierHarness:
    """Notifier, its clock, and waiting tasks."""

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.notifier = ChangeNotifier(self.clock)

    async def start_waiter(self, ids: Sequence[str] = IDS, seconds: float = 30) -> asyncio.Task[None]:
        """Return a task that is already waiting."""
        task = asyncio.create_task(self.notifier.wait_for_change(ids, seconds))
        await run_ready_tasks()
        return task

    def is_idle(self) -> bool:
        """Return True if there is no waiter and no timer."""
        return not self.notifier._waiters and len(asyncio.all_tasks()) == 1


@pytest.fixture
def harness() -> NotifierHarness:
    return NotifierHarness()


async def test_all_waiters_of_a_run_are_woken(harness: NotifierHarness) -> None:
    waiters = [
        await harness.start_waiter(),
        await harness.start_waiter(["run_2"]),
        await harness.start_waiter(["run_1"]),
    ]
    harness.notifier.notify("run_2")
    await run_ready_tasks()
    assert [True, True, False] == [waiter.done() for waiter in waiters]
    await harness.clock.run_for(30)
    assert waiters[2].done()
    assert harness.is_idle()


async def test_every_waiter_is_woken_when_any_run_may_have_changed(harness: NotifierHarness) -> None:
    waiters = [await harness.start_waiter(), await harness.start_waiter(["run_3"])]
    harness.notifier.notify_all()
    await run_ready_tasks()
    assert [True, True] == [waiter.done() for waiter in waiters]
    assert harness.is_idle()


async def test_a_wait_ends_with_its_time(harness: NotifierHarness) -> None:
    waiter = await harness.start_waiter()
    await harness.clock.run_for(29.9)
    assert not waiter.done()
    await harness.clock.run_for(0.1)
    assert (True, True) == (waiter.done(), harness.is_idle())


@pytest.mark.parametrize("seconds", [0, -1])
async def test_no_time_is_no_wait(harness: NotifierHarness, seconds: float) -> None:
    waiter = await harness.start_waiter(seconds=seconds)
    assert (True, True) == (waiter.done(), harness.is_idle())


async def test_a_cancelled_waiter_leaves_no_trace(harness: NotifierHarness) -> None:
    """R32: for clients that disconnect."""
    waiter, other = await harness.start_waiter(), await harness.start_waiter(["run_1"])
    waiter.cancel()
    await run_ready_tasks()
    assert waiter.cancelled()
    assert {"run_1"} == set(harness.notifier._waiters)
    harness.notifier.notify("run_1")
    await run_ready_tasks()
    assert (True, True) == (other.done(), harness.is_idle())


@pytest.mark.parametrize(("before", "lasts"), [(0.0, 0.1), (0.9, 0.1), (1.0, 30.0), (100.0, 30.0)])
async def test_just_after_a_change_a_wait_is_short(harness: NotifierHarness, before: float, lasts: float) -> None:
    """The reader may have missed that change."""
    harness.notifier.notify("run_1")
    await harness.clock.run_for(before)
    waiter = await harness.start_waiter()
    await harness.clock.run_for(lasts - 0.01)
    assert not waiter.done()
    await harness.clock.run_for(0.01)
    assert waiter.done()


async def test_another_runs_change_shortens_nothing(harness: NotifierHarness) -> None:
    harness.notifier.notify("run_3")
    waiter = await harness.start_waiter()
    await harness.clock.run_for(29)
    assert not waiter.done()
    waiter.cancel()


async def test_changes_are_remembered_for_a_second(harness: NotifierHarness) -> None:
    """For any number of runs and changes."""
    for number in range(1000):
        harness.notifier.notify(f"run_{number}")
        harness.notifier.notify("run_0")
        harness.clock.advance(0.01)
    assert len(harness.notifier._recent_changes) <= 102
    assert "run_0" in harness.notifier._recent_changes
