"""One-shot timer: fires once, at the earliest scheduled time."""

from __future__ import annotations

import math

from gateway.limits.queue.timers import OneShotTimer
from tests.support.virtual_clock import VirtualClock, run_ready_tasks


async def test_a_timer_fires_once_at_the_earliest_time() -> None:
    clock, fired = VirtualClock(), []
    timer = OneShotTimer(clock, lambda: fired.append(clock.monotonic()))
    for at in (1005.0, 1002.0, 1009.0):
        timer.schedule(at)
    await run_ready_tasks()
    assert 1002.0 == timer.fires_at
    await clock.run_for(20)
    assert [1002.0] == fired
    assert math.inf == timer.fires_at


async def test_a_timer_can_be_scheduled_by_its_callback() -> None:
    clock, fired = VirtualClock(), []

    def callback() -> None:
        fired.append(clock.monotonic())
        if len(fired) < 3:
            timer.schedule(clock.monotonic() + 1)

    timer = OneShotTimer(clock, callback)
    timer.schedule(1001.0)
    await clock.run_for(10)
    assert [1001.0, 1002.0, 1003.0] == fired


async def test_a_cancelled_timer_does_not_fire_and_can_be_scheduled_again() -> None:
    clock, fired = VirtualClock(), []
    timer = OneShotTimer(clock, lambda: fired.append(clock.monotonic()))
    timer.schedule(1001.0)
    await run_ready_tasks()
    timer.cancel()
    await clock.run_for(5)
    assert [] == fired
    timer.schedule(1007.0)
    await clock.run_for(5)
    assert [1007.0] == fired


async def test_a_timer_for_a_past_time_fires_at_once() -> None:
    clock, fired = VirtualClock(), []
    OneShotTimer(clock, lambda: fired.append(clock.monotonic())).schedule(999.0)
    await run_ready_tasks()
    assert [1000.0] == fired


async def test_a_timer_for_infinity_does_not_fire() -> None:
    timer = OneShotTimer(VirtualClock(), lambda: None)
    timer.schedule(math.inf)
    assert timer._task is None  # no task is kept without a time
