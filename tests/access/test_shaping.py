"""How a provider's and a workflow's limits shape: waits, their ends, and what a wait leaves behind."""

from __future__ import annotations

import asyncio
import math

import pytest

from gateway.access.limits import ClientLimits, Rate, SharedLimits
from gateway.problems import Problem
from tests.access.virtual_clock import settle
from tests.access.worlds import World, refusal


async def test_what_can_not_come_in_time_is_refused_at_once_with_the_exact_wait() -> None:
    """R30: the surplus does not wait in vain; R85 for a provider."""
    world = World(providers={"p": SharedLimits(Rate(1), 1, max_wait=0.5)})
    await world.admit()
    result, took = await world.finish(world.admit())
    assert ("overloaded", "not_run") == refusal(result)
    assert 0.0 == took
    assert isinstance(result, Problem)
    assert pytest.approx(1.0) == result.retry_after
    world.clock.advance(result.retry_after or 0)
    await world.admit()
    assert [("provider", "admitted"), ("provider", "refused"), ("provider", "admitted")] == world.decisions


async def test_those_ahead_count_in_what_can_not_come_in_time() -> None:
    world = World(providers={"p": SharedLimits(Rate(2), 1)})
    await world.admit()
    waiting = [world.begin(world.admit()) for _ in range(2)]
    await settle()
    result, took = await world.finish(world.admit())
    assert ("overloaded", 0.0) == (refusal(result)[0], took)
    await world.clock.run_for(1)
    assert all(task.done() for task in waiting)


async def test_a_wait_is_as_long_as_the_rate_wants() -> None:
    world = World(providers={"p": SharedLimits(Rate(2), 1)})
    await world.admit()
    _, took = await world.finish(world.admit())
    assert 0.5 == pytest.approx(took, abs=1e-5)
    assert [("provider", "admitted"), ("provider", "waited")] == world.decisions


async def test_a_wait_for_a_slot_ends_with_the_providers_patience() -> None:
    world = World(providers={"p": SharedLimits(concurrency=1, max_wait=2)})
    await world.admit()
    result, took = await world.finish(world.admit())
    assert (("overloaded", "not_run"), 2.0) == (refusal(result), took)
    assert isinstance(result, Problem)
    assert 1.0 == result.retry_after
    assert 0 == world.limits.waiting("p")


async def test_a_deadline_that_passes_in_the_line_is_told_as_such() -> None:
    """R31."""
    world = World(providers={"p": SharedLimits(concurrency=1, max_wait=2)})
    await world.admit()
    result, took = await world.finish(world.admit(within=0.5))
    assert (("deadline_exceeded", "not_run"), 0.5) == (refusal(result), took)


@pytest.mark.parametrize("workflows", [{}, {"w": SharedLimits(concurrency=1)}])
async def test_a_deadline_that_has_passed_is_no_admission(workflows: dict[str, SharedLimits]) -> None:
    world = World(workflows=workflows, providers={"p": SharedLimits(concurrency=1)})
    for within in (0.0, -1.0):
        result, took = await world.finish(world.admit(within=within))
        assert (("deadline_exceeded", "not_run"), 0.0) == (refusal(result), took)
    assert 0 == world.limits.running("p")


async def test_a_patience_of_nothing_refuses_at_once() -> None:
    world = World(providers={"p": SharedLimits(concurrency=1, max_wait=0)})
    await world.admit()
    result, took = await world.finish(world.admit())
    assert ("overloaded", 0.0) == (refusal(result)[0], took)


async def test_a_patience_of_its_own_goes_before_that_of_the_limits() -> None:
    """Of a first start, of a fallback and of a retried start; for a rate and for a slot."""
    world = World(providers={"p": SharedLimits(Rate(0.1), 1, max_wait=0.5), "q": SharedLimits(concurrency=1)})
    busy = await world.limits.admit("b", "w", "q", deadline=math.inf)
    await world.admit()
    patient, took = await world.finish(world.admit(patience=30))
    assert not isinstance(patient, Problem)
    assert 10.0 == pytest.approx(took, abs=1e-5)
    _, took = await world.finish(patient.start_again(deadline=math.inf))
    assert 10.0 == pytest.approx(took, abs=1e-5)
    moving = world.begin(patient.move("w", "q", deadline=math.inf))
    await world.clock.run_for(20)
    assert not moving.done()
    busy.release()
    await moving


async def test_a_patience_ends() -> None:
    world = World(providers={"p": SharedLimits(concurrency=1, max_wait=0.5)})
    await world.admit()
    result, took = await world.finish(world.admit(patience=30))
    assert (("overloaded", "not_run"), 30.0) == (refusal(result), took)
    result, took = await world.finish(world.admit(patience=math.inf, within=40))
    assert (("deadline_exceeded", "not_run"), 40.0) == (refusal(result), took)


async def test_a_slow_workflow_holds_nobody_else_up() -> None:
    world = World(workflows={"slow": SharedLimits(concurrency=1, max_wait=5)}, providers={"p": SharedLimits(Rate(9))})
    await world.admit(workflow="slow")
    waiting = world.begin(world.admit(workflow="slow"))
    await settle()
    for client in ("a", "b"):
        _, took = await world.finish(world.admit(client, "fast"))
        assert 0.0 == took
    assert not waiting.done()
    waiting.cancel()


async def test_a_workflow_shapes_too_and_its_wait_is_named() -> None:
    world = World(workflows={"w": SharedLimits(Rate(1), 1)}, providers={"p": SharedLimits(Rate(9))})
    await world.admit()
    _, took = await world.finish(world.admit())
    assert 1.0 == pytest.approx(took, abs=1e-5)
    assert [("workflow", "waited"), ("provider", "admitted")] == world.decisions[-2:]


async def test_the_shorter_patience_counts() -> None:
    """A workflow may be waited for less long than its provider."""
    shared = SharedLimits(concurrency=1, max_wait=5)
    world = World(workflows={"w": SharedLimits(concurrency=9, max_wait=2)}, providers={"p": shared})
    await world.admit()
    result, took = await world.finish(world.admit())
    assert ("overloaded", 2.0) == (refusal(result)[0], took)


async def test_a_turn_after_the_deadline_is_none() -> None:
    """R31: the timer was late, the slot came later still; the run is not started."""
    world = World(providers={"p": SharedLimits(concurrency=1)})
    first = await world.admit()
    waiting = world.begin(world.admit(within=0.5))
    await settle()
    world.clock.advance(0.6)
    first.release()
    result, _ = await world.finish(_joined(waiting))
    assert ("deadline_exceeded", "not_run") == refusal(result)
    assert 0 == world.limits.running("p")


async def test_a_flood_fills_half_the_line_and_is_told_at_once() -> None:
    world = World(providers={"p": SharedLimits(concurrency=1)})
    await world.admit()
    waiting = [world.begin(world.admit("flood")) for _ in range(600)]
    await settle()
    assert 500 == world.limits.waiting("p")
    assert 100 == sum(task.done() and task.exception() is not None for task in waiting)
    other = world.begin(world.admit("other"))
    await settle()
    assert not other.done()
    await world.clock.run_for(1)
    await asyncio.gather(other, *waiting, return_exceptions=True)
    assert 0 == world.limits.waiting("p")


async def test_a_client_whose_limit_ran_out_while_it_waited_is_refused_at_its_turn() -> None:
    """Nothing is held while waiting: the other request took the last of the client's rate."""
    world = World({"a": ClientLimits(Rate(0.01), 1)}, providers={"p": SharedLimits(concurrency=1), "q": SharedLimits()})
    first = await world.admit("b")
    waiting = world.begin(world.admit("a"))
    await settle()
    await world.limits.admit("a", "w", "q", deadline=world.now + 9)
    first.release()
    result, _ = await world.finish(_joined(waiting))
    assert ("rate_limited", None) == refusal(result)
    assert 0 == world.limits.running("p")
    assert ("client", "refused") == world.decisions[-1]


async def test_who_is_not_wanted_any_more_does_not_start() -> None:
    """R32: the client left while its request was queued."""
    world = World({"a": ClientLimits(Rate(1), 1)}, providers={"p": SharedLimits(concurrency=1)})
    first = await world.admit("b")
    waiting = world.begin(world.limits.admit("a", "w", "p", deadline=world.now + 9, wanted=lambda: False))
    await settle()
    first.release()
    result, _ = await world.finish(_joined(waiting))
    assert ("client_closed_request", "not_run") == refusal(result)
    assert 0 == world.limits.running("p")
    await world.admit("a")


async def test_a_cancelled_wait_leaves_no_trace() -> None:
    world = World({"a": ClientLimits(Rate(1), 1)}, providers={"p": SharedLimits(Rate(1), 2, concurrency=1)})
    first = await world.admit("b")
    waiting = world.begin(world.admit("a"))
    await settle()
    waiting.cancel()
    await settle()
    assert 0 == world.limits.waiting("p")
    first.release()
    await world.admit("a")


async def test_cancelled_in_the_moment_of_its_turn_it_gives_all_back() -> None:
    """R33: the slot was handed over, but nobody was there any more to take it."""
    world = World({"a": ClientLimits(Rate(1), 1)}, providers={"p": SharedLimits(Rate(1), 2, concurrency=1)})
    first = await world.admit("b")
    one, two = world.begin(world.admit("a")), world.begin(world.admit("c"))
    await settle()
    first.release()
    one.cancel()
    await settle()
    assert one.cancelled()
    assert (1, 0) == (world.limits.running("p"), world.limits.waiting("p"))
    (await two).release()
    assert '"rate";r=0;t=1' == (await world.clock.run_until_done(world.admit("a"))).headers[1][1]


async def _joined(task: asyncio.Task[object]) -> object:
    return await task
