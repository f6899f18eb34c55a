"""What is known of one run: its id, its time, and an ending that never claims too much."""

from __future__ import annotations

import asyncio
import re
from datetime import timedelta

import pytest

from gateway.clock import SystemClock
from gateway.runs.record import Order, RunRecord
from gateway.runs.retry import Ending
from tests.manual_clock import ManualClock


def opened(clock: ManualClock, seconds: float = 30.0) -> RunRecord:
    """A run that was just asked for."""
    return RunRecord.open(Order("one", "w", seconds), "p", clock)


def test_a_run_begins_with_its_order() -> None:
    """Its deadline is on the monotonic clock, its time of birth on the other one."""
    clock = ManualClock()
    run = opened(clock, 30)
    assert ("queued", 0, False, None) == (run.status, run.attempts, run.maybe_started, run.finished_at)
    assert (clock.monotonic(), clock.monotonic() + 30, clock.now()) == (run.began, run.deadline, run.created_at)


def test_an_id_can_not_be_guessed() -> None:
    """R46: 128 random bits, from where keys come from."""
    runs = [RunRecord.open(Order("one", "w", 1), "p", SystemClock()) for _ in range(100)]
    assert 100 == len({run.id for run in runs})
    assert all(re.fullmatch("run_[0-9a-f]{32}", run.id) for run in runs)


def test_a_stepped_wall_clock_changes_neither_deadline_nor_duration() -> None:
    """R87, in small: an administrator or NTP sets it as they like."""
    clock = ManualClock()
    run = opened(clock, 30)
    clock.advance(2)
    clock.step_wall(-3600)
    run.close("succeeded", clock)
    assert (2.0, clock.monotonic() + 28) == (run.duration, run.deadline)


@pytest.mark.parametrize("ending", ["succeeded", "failed", "unknown", "not_run"])
@pytest.mark.parametrize("maybe_started", [True, False])
def test_what_may_have_started_is_never_called_not_run(ending: Ending, *, maybe_started: bool) -> None:
    clock = ManualClock()
    run = opened(clock)
    run.maybe_started = maybe_started
    clock.advance(3)
    run.close(ending, clock)
    expected = "unknown" if maybe_started and ending == "not_run" else ending
    assert (expected, 3.0, clock.now()) == (run.status, run.duration, run.finished_at)
    assert timedelta(seconds=3) == clock.now() - run.created_at


async def test_waiting_is_kept_apart_however_it_ends() -> None:
    """It is the provider's time, the limits' or the back-off's; even if it ends with a fault or a cancellation."""
    clock = ManualClock()
    run = opened(clock)

    async def work(error: BaseException | None) -> str:
        clock.advance(2)
        if error is not None:
            raise error
        return "done"

    assert "done" == await run.waiting(work(None), clock)
    for error in (ValueError(), asyncio.CancelledError()):
        with pytest.raises(type(error)):
            await run.waiting(work(error), clock)
    clock.advance(1)
    run.close("failed", clock)
    assert (6.0, 7.0) == (run.waited, run.duration)


def test_somebody_waits_unless_it_is_said_otherwise() -> None:
    assert Order("one", "w", 1).wanted()
    assert not Order("one", "w", 1, wanted=lambda: False).wanted()


def test_orders_share_no_defaults() -> None:
    """One client's input must not become the next one's."""
    first, second = Order("one", "w", 1), Order("two", "w", 1)
    assert first.input is not second.input
    assert first.metadata is not second.metadata
