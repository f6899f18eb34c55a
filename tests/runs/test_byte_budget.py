"""Byte budget of runs: a start whose answer would not fit is refused before anything is sent."""

from __future__ import annotations

from gateway.byte_budget import LARGE, ByteBudget, Hold, current_hold
from gateway.limits.config import ClientLimitsConfig
from gateway.runs.catalog import Workflow
from providers.contract import Cause, Reply
from tests.runs.executor_harness import DONE, ExecutorHarness, ending_of_run, fault, upstream_of

LIMIT = 10 * LARGE


def budgeted_harness() -> ExecutorHarness:
    """Return a harness with a budget of ten large answers, and a daily quota that shows refunds."""
    harness = ExecutorHarness(client=ClientLimitsConfig(daily=10))
    harness.context.byte_budget = ByteBudget(LIMIT)
    return harness


def answers_of(harness: ExecutorHarness, size: int) -> Workflow:
    """Return a workflow whose answers have `size` bytes."""

    def answer() -> Reply:
        hold = current_hold.get()
        assert hold is not None
        hold.receive_answer(size)  # as the connection does
        return DONE

    return harness.studio(answer)


async def run_with_hold(harness: ExecutorHarness, workflow: Workflow) -> tuple[str | None, str, int]:
    """Run within a hold of its own, as a request does."""
    with Hold(harness.context.byte_budget) as hold:
        current_hold.set(hold)
        return ending_of_run(await harness.run(workflow))


async def test_a_run_whose_usual_answer_does_not_fit_is_refused_before_its_start() -> None:
    harness = budgeted_harness()
    workflow = answers_of(harness, 6 * LARGE)
    assert (None, "succeeded", 1) == await run_with_hold(harness, workflow)
    other = Hold(harness.context.byte_budget)
    other.add(5 * LARGE)
    assert ("overloaded", "not_run", 0) == await run_with_hold(harness, workflow)
    assert (1, 0) == (upstream_of(workflow).starts, harness.slots_in_use())
    other.release()
    assert [(None, "succeeded", 1)] * 9 == [await run_with_hold(harness, workflow) for _ in range(9)], "no quota used"
    assert 0 == harness.context.byte_budget.held


async def test_a_run_whose_answers_are_small_is_not_refused() -> None:
    harness = budgeted_harness()
    workflow = answers_of(harness, 100)
    with Hold(harness.context.byte_budget) as other:
        other.add(2 * LIMIT)
        assert [(None, "succeeded", 1)] * 3 == [await run_with_hold(harness, workflow) for _ in range(3)]


async def test_an_answer_that_comes_all_the_same_is_not_dropped() -> None:
    harness = budgeted_harness()
    with Hold(harness.context.byte_budget) as other:
        other.add(LIMIT)
        assert (None, "succeeded", 1) == await run_with_hold(harness, answers_of(harness, 9 * LARGE))


async def test_a_failed_start_gives_the_reservation_back() -> None:
    harness = budgeted_harness()
    assert (None, "succeeded", 1) == await run_with_hold(harness, answers_of(harness, 6 * LARGE))
    failing = harness.studio(fault(Cause.DISCONNECTED))
    with Hold(harness.context.byte_budget) as hold:
        current_hold.set(hold)
        await harness.run(failing)
        assert 0 == harness.context.byte_budget.held
