"""Model of a run: id, times, and an ending that never claims more than is known."""

from __future__ import annotations

import asyncio
import re
from datetime import timedelta

import pytest

from gateway.clock import SystemClock
from gateway.errors import Ending
from gateway.runs.model import RunRecord, RunSpec
from tests.support.clock import ManualClock


def new_run(clock: ManualClock, seconds: float = 30.0) -> RunRecord:
    """Return a new run."""
    return RunRecord.create(RunSpec("one", "w", seconds), "p", clock)


def test_a_new_run_has_the_values_of_its_spec() -> None:
    """Its deadline is on the monotonic clock, its time of birth on the other one."""
    clock = ManualClock()
    run = new_run(clock, 30)
    assert ("queued", 0, False, None) == (run.status, run.attempts, run.maybe_started, run.finished_at)
    assert (clock.monotonic(), clock.monotonic() + 30, clock.now()) == (
        run.started_monotonic,
        run.deadline,
        run.created_at,
    )


def test_a_run_id_is_random() -> None:
    """R46: 128 random bits, from where keys come from."""
    runs = [RunRecord.create(RunSpec("one", "w", 1), "p", SystemClock()) for _ in range(100)]
    assert 100 == len({run.id for run in runs})
    assert all(re.fullmatch("run_[0-9a-f]{32}", run.id) for run in runs)


def test_a_stepped_wall_clock_changes_neither_deadline_nor_duration() -> None:
    """R87, in small: an administrator or NTP sets it as they like."""
    clock = ManualClock()
    run = new_run(clock, 30)
    clock.advance(2)
    clock.step_wall(-3600)
    run.finish("succeeded", clock)
    assert (2.0, clock.monotonic() + 28) == (run.duration, run.deadline)


@pytest.mark.parametrize("ending", ["succeeded", "failed", "unknown", "not_run"])
@pytest.mark.parametrize("maybe_started", [True, False])
def test_what_may_have_started_is_never_called_not_run(ending: Ending, *, maybe_started: bool) -> None:
    clock = ManualClock()
    run = new_run(clock)
    run.maybe_started = maybe_started
    clock.advance(3)
    run.finish(ending, clock)
    expected = "unknown" if maybe_started and ending == "not_run" else ending
    assert (expected, 3.0, clock.now()) == (run.status, run.duration, run.finished_at)
    assert timedelta(seconds=3) == clock.now() - run.created_at


async def test_external_waiting_is_measured_for_every_result() -> None:
    """Time of the provider, limits and backoff, also for faults and cancellations."""
    clock = ManualClock()
    run = new_run(clock)

    async def work(error: BaseException | None) -> str:
        clock.advance(2)
        if error is not None:
            raise error
        return "done"

    assert "done" == await run.await_external(work(None), clock)
    for error in (ValueError(), asyncio.CancelledError()):
        with pytest.raises(type(error)):
            await run.await_external(work(error), clock)
    clock.advance(1)
    run.finish("failed", clock)
    assert (6.0, 7.0) == (run.external_wait, run.duration)


def test_a_client_counts_as_connected_by_default() -> None:
    assert RunSpec("one", "w", 1).client_connected()
    assert not RunSpec("one", "w", 1, client_connected=lambda: False).client_connected()


def test_run_specs_share_no_defaults() -> None:
    """One client's input must not become the next one's."""
    first, second = RunSpec("one", "w", 1), RunSpec("two", "w", 1)
    assert first.input is not second.input
    assert first.metadata is not second.metadata
