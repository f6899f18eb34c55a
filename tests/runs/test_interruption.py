"""Interruption of the work on a run: its error replaces CancelledError, which means a shutdown everywhere else."""

from __future__ import annotations

import asyncio

import pytest

from gateway.errors import DeadlineExceeded, RunCancelled
from gateway.runs.interruption import Interruption
from tests.support.virtual_clock import run_ready_tasks


async def _work(*interruptions: Interruption) -> str:
    """Wait inside the interruptions, the first one outermost."""
    if not interruptions:
        await asyncio.Event().wait()
    with interruptions[0]:
        return await _work(*interruptions[1:])


async def test_interrupted_work_ends_with_the_error_and_its_task_goes_on() -> None:
    interruption, error = Interruption(), RunCancelled()

    async def work() -> int:
        with pytest.raises(RunCancelled) as raised:
            await _work(interruption)
        assert raised.value is error
        await asyncio.sleep(0)
        task = asyncio.current_task()
        assert task is not None
        return task.cancelling()

    task = asyncio.create_task(work())
    await run_ready_tasks()
    interruption.interrupt(error)
    interruption.interrupt(DeadlineExceeded())
    assert 0 == await task


async def test_work_that_was_interrupted_before_does_not_begin() -> None:
    interruption = Interruption()
    interruption.interrupt(RunCancelled())
    with pytest.raises(RunCancelled):
        await _work(interruption)


async def test_work_that_has_ended_is_not_interrupted() -> None:
    interruption = Interruption()
    with interruption:
        pass
    interruption.interrupt(RunCancelled())
    await asyncio.sleep(0)


@pytest.mark.parametrize("interrupted_first", [True, False])
async def test_a_shutdown_at_the_same_time_stays_a_shutdown(*, interrupted_first: bool) -> None:
    interruption = Interruption()
    task = asyncio.create_task(_work(interruption))
    await run_ready_tasks()
    if not interrupted_first:
        task.cancel()
    interruption.interrupt(RunCancelled())
    if interrupted_first:
        task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert task.cancelled()


async def test_the_outermost_of_nested_interruptions_counts() -> None:
    outer, inner = Interruption(), Interruption()
    task = asyncio.create_task(_work(outer, inner))
    await run_ready_tasks()
    inner.interrupt(DeadlineExceeded())
    outer.interrupt(RunCancelled())
    with pytest.raises(RunCancelled):
        await task


async def test_another_error_of_interrupted_work_is_kept() -> None:
    """And the task does not count as cancelled afterwards."""
    interruption = Interruption()

    async def failing(interruption: Interruption) -> None:
        with interruption:
            try:
                await asyncio.Event().wait()
            finally:
                raise ValueError("cleaning up failed")

    async def work() -> int:
        with pytest.raises(ValueError, match="cleaning up"):
            await failing(interruption)
        task = asyncio.current_task()
        assert task is not None
        return task.cancelling()

    task = asyncio.create_task(work())
    await run_ready_tasks()
    interruption.interrupt(RunCancelled())
    assert 0 == await task
