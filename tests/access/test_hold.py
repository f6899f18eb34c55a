"""What a run holds: moved to a fallback, charged for its calls, and free again exactly once."""

from __future__ import annotations

import asyncio
import math

import pytest

from gateway.access.limits import Admission, ClientLimits, Rate, SharedLimits
from gateway.problems import Problem
from tests.access.virtual_clock import settle
from tests.access.worlds import World, refusal


def _two(limits: SharedLimits, *, client: ClientLimits | None = None) -> World:
    """A world of two providers, and a limited client."""
    return World({"a": client or ClientLimits(Rate(1), 9, 5)}, providers={"p": limits, "q": limits})


async def test_leaving_twice_frees_once() -> None:
    """R90."""
    world = _two(SharedLimits(concurrency=2))
    one, two = await world.admit(), await world.admit()
    for _ in range(3):
        one.release()
    assert 1 == world.limits.running("p")
    two.refund()
    two.release()
    assert 0 == world.limits.running("p")


async def test_leaving_a_block_frees_whatever_ended_it() -> None:
    """R90: on success and on a fault."""
    world = _two(SharedLimits(concurrency=1))
    async with await world.admit() as admission:
        held: Admission = admission
        assert 1 == world.limits.running("p")
    with pytest.raises(RuntimeError):
        async with await world.admit():
            raise RuntimeError
    held.release()
    assert 0 == world.limits.running("p")
    assert 0 == world.limits._state.accounts["a"].in_flight


async def test_a_fallback_hands_over_and_charges_the_client_once() -> None:
    world = _two(SharedLimits(Rate(1), 5, concurrency=1))
    admission = await world.admit()
    headers = admission.headers
    await admission.move("other", "q", deadline=math.inf)
    assert (0, 1) == (world.limits.running("p"), world.limits.running("q"))
    assert headers == admission.headers
    admission.release()
    assert (0, 0) == (world.limits.running("p"), world.limits.running("q"))
    assert '"rate";r=7;t=1' == (await world.admit()).headers[1][1]


async def test_a_fallback_waits_its_turn_and_holds_nothing_of_the_old_one_meanwhile() -> None:
    world = _two(SharedLimits(concurrency=1))
    busy = await world.limits.admit("b", "w", "q", deadline=math.inf)
    admission = await world.admit()
    moving = world.begin(admission.move("w", "q", deadline=math.inf))
    await settle()
    assert (0, 1) == (world.limits.running("p"), world.limits.waiting("q"))
    busy.release()
    await moving
    assert 1 == world.limits.running("q")
    assert ("provider", "waited") == world.decisions[-1]


async def test_a_fallback_in_vain_keeps_only_the_clients_slot() -> None:
    world = _two(SharedLimits(concurrency=1))
    busy = await world.limits.admit("b", "w", "q", deadline=math.inf)
    admission = await world.admit()
    result, _ = await world.finish(admission.move("w", "q", deadline=math.inf))
    assert ("overloaded", "not_run") == refusal(result)
    assert (0, 1) == (world.limits.running("p"), world.limits._state.accounts["a"].in_flight)
    admission.release()
    busy.release()
    assert (0, 0) == (world.limits.running("q"), world.limits._state.accounts["a"].in_flight)


@pytest.mark.parametrize("order", ["free, cancel", "cancel, free", "cancel, settle, free"])
async def test_a_cancelled_fallback_takes_nothing(order: str) -> None:
    """Neither slots nor rates, be it cancelled before, after or in the moment of its turn."""
    limits = SharedLimits(Rate(0.001), 2, concurrency=1)
    world = World(workflows={"other": limits}, providers={"p": SharedLimits(), "q": limits})
    busy = await world.limits.admit("b", "w", "q", deadline=math.inf)
    admission = await world.admit()
    moving = world.begin(admission.move("other", "q", deadline=math.inf))
    await settle()
    for step in order.split(", "):
        match step:
            case "free":
                busy.release()
            case "cancel":
                moving.cancel()
            case _:
                await settle()
    await settle()
    assert moving.cancelled()
    assert (0, 0) == (world.limits.running("q"), world.limits.waiting("q"))
    await admission.move("other", "q", deadline=math.inf)
    await admission.move("other", "p", deadline=math.inf)
    admission.release()
    assert 0 == world.limits.running("q")


async def test_a_run_that_left_while_it_moved_takes_nothing() -> None:
    world = _two(SharedLimits(concurrency=1))
    busy = await world.limits.admit("b", "w", "q", deadline=math.inf)
    admission = await world.admit()
    moving = world.begin(admission.move("w", "q", deadline=math.inf))
    await settle()
    admission.release()
    busy.release()
    with pytest.raises(Problem):
        await moving
    assert 0 == world.limits.running("q")


async def test_a_refund_makes_as_if_the_run_had_never_come() -> None:
    """R86: refused after admission (a circuit is open) costs no quota."""
    shared = SharedLimits(Rate(1), 1, concurrency=1)
    world = World({"a": ClientLimits(Rate(1), 2, daily=3)}, {"w": shared}, {"p": shared})
    first = await world.admit()
    first.refund()
    assert first.headers == (await world.admit()).headers


async def test_a_refund_lets_the_next_one_go() -> None:
    world = _two(SharedLimits(Rate(1), 1))
    admission = await world.admit()
    waiting = world.begin(world.admit("b"))
    await settle()
    admission.refund()
    await settle()
    assert waiting.done()


async def test_polls_and_retried_starts_count_in_the_providers_rate() -> None:
    """R89."""
    world = _two(SharedLimits(Rate(1), 3))
    admission = await world.admit()
    await admission.poll(deadline=math.inf)
    await admission.start_again(deadline=math.inf)
    _, took = await world.finish(admission.poll(deadline=math.inf))
    assert 1.0 == pytest.approx(took, abs=1e-5)
    assert [("provider", "admitted"), ("provider", "admitted"), ("provider", "waited")] == world.decisions[-3:]


async def test_a_start_goes_before_a_poll_that_came_earlier() -> None:
    world = _two(SharedLimits(Rate(1), 1))
    admission = await world.admit()
    poll = world.begin(admission.poll(deadline=math.inf))
    await settle()
    start = world.begin(world.admit("b"))
    await world.clock.run_for(1)
    assert (True, False) == (start.done(), poll.done())
    await world.clock.run_for(1)
    assert poll.done()


async def test_a_poll_is_not_starved_by_starts() -> None:
    """A finished run is always seen: after `max_wait` the poll has its turn, however many want to start."""
    world = _two(SharedLimits(Rate(10), 1, max_wait=0.5))
    admission = await world.admit()
    poll, starts = world.begin(admission.poll(deadline=math.inf)), []
    began = world.now
    while not poll.done() and world.now < began + 2:
        starts += [world.begin(world.admit(f"c{n}")) for n in range(3)]
        await world.clock.run_for(0.1)
    assert 0.5 <= world.now - began <= 0.7 + 1e-5
    await world.clock.run_for(2)
    await asyncio.gather(*starts, return_exceptions=True)


async def test_a_poll_gives_up_at_its_deadline_only_and_claims_nothing() -> None:
    world = _two(SharedLimits(Rate(0.1), 1))
    admission = await world.admit()
    result, took = await world.finish(admission.poll(deadline=world.now + 5))
    assert (("deadline_exceeded", "unknown"), 5.0) == (refusal(result), took)


async def test_a_retried_start_that_can_not_come_in_time_is_refused_at_once() -> None:
    world = _two(SharedLimits(Rate(0.1), 1))
    admission = await world.admit()
    result, took = await world.finish(admission.start_again(deadline=math.inf))
    assert (("overloaded", "not_run"), 0.0) == (refusal(result), took)
    assert isinstance(result, Problem)
    world.clock.advance(result.retry_after or 0)
    await admission.start_again(deadline=math.inf)


async def test_a_retried_start_waits_before_all_first_ones() -> None:
    world = _two(SharedLimits(Rate(10), 1))
    admission = await world.admit()
    first = world.begin(world.admit("b"))
    await settle()
    again = world.begin(admission.start_again(deadline=math.inf))
    await world.clock.run_for(0.1)
    assert (True, False) == (again.done(), first.done())
    await world.clock.run_for(0.1)
    assert first.done()


@pytest.mark.parametrize("kind", ["poll", "start_again"])
async def test_a_call_cancelled_in_the_moment_of_its_turn_leaves_it_to_the_next(kind: str) -> None:
    world = _two(SharedLimits(Rate(1), 1, max_wait=5))
    admission = await world.admit()
    calls = [world.begin(getattr(admission, kind)(deadline=world.now + 9)) for _ in range(2)]
    await settle()
    world.clock.advance(1)
    world.limits._state.lane("p").pump()  # as the timer does: the first call's turn has come
    calls[0].cancel()
    await settle()
    assert (True, True) == (calls[0].cancelled(), calls[1].done())
    await calls[1]


async def test_a_poll_is_made_for_a_client_that_left() -> None:
    """The run has started; how it ends has to be known."""
    world = _two(SharedLimits(Rate(1), 1))
    admission = await world.limits.admit("a", "w", "p", deadline=math.inf, wanted=lambda: False)
    result, took = await world.finish(admission.poll(deadline=math.inf))
    assert not isinstance(result, Problem)
    assert 1.0 == pytest.approx(took, abs=1e-5)
    result, _ = await world.finish(admission.start_again(deadline=math.inf))
    assert "client_closed_request" == refusal(result)[0]
