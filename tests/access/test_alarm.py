"""One timer: it rings at the earliest moment that was set, once."""

from __future__ import annotations

import math

from gateway.access.alarm import Alarm
from tests.access.virtual_clock import VirtualClock, settle


async def test_it_rings_once_at_the_earliest_moment() -> None:
    clock, rung = VirtualClock(), []
    alarm = Alarm(clock, lambda: rung.append(clock.monotonic()))
    for at in (1005.0, 1002.0, 1009.0):
        alarm.set(at)
    await settle()
    assert 1002.0 == alarm.at
    await clock.run_for(20)
    assert [1002.0] == rung
    assert math.inf == alarm.at


async def test_it_may_be_set_again_while_it_rings() -> None:
    clock, rung = VirtualClock(), []

    def ring() -> None:
        rung.append(clock.monotonic())
        if len(rung) < 3:
            alarm.set(clock.monotonic() + 1)

    alarm = Alarm(clock, ring)
    alarm.set(1001.0)
    await clock.run_for(10)
    assert [1001.0, 1002.0, 1003.0] == rung


async def test_cancelled_it_stays_silent_and_can_be_set_again() -> None:
    clock, rung = VirtualClock(), []
    alarm = Alarm(clock, lambda: rung.append(clock.monotonic()))
    alarm.set(1001.0)
    await settle()
    alarm.cancel()
    await clock.run_for(5)
    assert [] == rung
    alarm.set(1007.0)
    await clock.run_for(5)
    assert [1007.0] == rung


async def test_a_moment_that_has_passed_rings_soon() -> None:
    clock, rung = VirtualClock(), []
    Alarm(clock, lambda: rung.append(clock.monotonic())).set(999.0)
    await settle()
    assert [1000.0] == rung


async def test_infinity_is_never() -> None:
    alarm = Alarm(VirtualClock(), lambda: None)
    alarm.set(math.inf)
    assert alarm._task is None  # no timer is kept for nothing
