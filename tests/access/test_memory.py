"""The limits as a whole, on virtual time: what they promise to clients and providers."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.access.limits import ClientLimits, Limits, Rate, SharedLimits
from gateway.access.memory import MemoryLimits
from gateway.problems import Problem
from tests.access.virtual_clock import VirtualClock, settle
from tests.access.worlds import World, refusal


def test_memory_keeps_the_contract() -> None:
    """What mypy checks here is that `MemoryLimits` is a `Limits`."""
    limits: Limits = MemoryLimits(VirtualClock(), clients={}, workflows={}, providers={})
    assert callable(limits.admit)


async def test_ten_of_a_hundred_at_once_pass() -> None:
    """R85: 429 with the exact wait; waiting that long succeeds. R86: the refused hundred cost nothing."""
    world = World({"a": ClientLimits(Rate(10), 10)}, providers={"p": SharedLimits(Rate(100), 100)})
    results = await asyncio.gather(*(world.admit() for _ in range(100)), return_exceptions=True)
    problems = [result for result in results if isinstance(result, Problem)]
    assert 90 == len(problems)
    assert {"rate_limited"} == {problem.code for problem in problems}
    assert pytest.approx(0.1) == problems[-1].retry_after
    world.clock.advance(problems[-1].retry_after or 0)
    admission = await world.admit()
    assert ("RateLimit", '"rate";r=0;t=1') == admission.headers[1]
    assert [("client", "admitted"), ("provider", "admitted")] == world.decisions[-2:]
    assert 90 == world.decisions.count(("client", "refused"))


async def test_a_client_without_limits_has_no_fields() -> None:
    world = World({"a": ClientLimits()}, providers={"p": SharedLimits(Rate(1), 2)})
    for client in ("a", "unknown"):
        assert () == (await world.admit(client)).headers


async def test_a_refusal_by_the_provider_costs_the_client_nothing() -> None:
    """R86: every bucket or none; here the provider is short, so the client's rate and day stay as they were."""
    world = World({"a": ClientLimits(Rate(1), 2, daily=10)}, providers={"p": SharedLimits(concurrency=1)})
    first = await world.admit()
    result, _ = await world.finish(world.admit())
    assert ("overloaded", "not_run") == refusal(result)
    first.release()
    world.clock.advance(10)
    assert '"rate";r=1;t=1, "daily";r=8;t=43189' == (await world.admit()).headers[1][1]


async def test_a_refusal_by_the_client_costs_the_provider_nothing() -> None:
    """R86, the other way round."""
    world = World({"a": ClientLimits(concurrency=0)}, providers={"p": SharedLimits(Rate(1), 1, concurrency=1)})
    with pytest.raises(Problem):
        await world.admit("a")
    await world.admit("b")
    assert 1 == world.limits.running("p")


async def test_a_step_of_the_wall_clock_changes_nothing() -> None:
    """R87: neither rates nor waits nor the day."""
    world = World({"a": ClientLimits(Rate(1), 5, daily=5)}, providers={"p": SharedLimits(Rate(1), 1)})
    await world.admit()
    waiting = world.begin(world.admit())
    await settle()
    for step in (3600, -7200):
        world.clock.step_wall(step)
    await world.clock.run_for(0.99)
    assert not waiting.done()
    await world.clock.run_for(0.02)
    assert '"rate";r=4;t=1, "daily";r=3;t=43200' == (await waiting).headers[1][1]


async def test_a_flood_of_one_client_does_not_touch_another() -> None:
    """R88: one floods at 100 times the provider's rate, the other's requests all pass within one turn of each."""
    world = World(providers={"p": SharedLimits(Rate(10), 1)})
    flood, waits = [], []

    async def polite() -> None:
        began = world.now
        (await world.admit("polite")).release()
        waits.append(world.now - began)

    others = []
    for tick in range(1000):
        flood += [world.begin(world.admit("flood")) for _ in range(10)]
        if tick % 50 == 25:
            others.append(world.begin(polite()))
        await world.clock.run_for(0.01)
    await world.clock.run_for(2)
    await asyncio.gather(*others)
    results = await asyncio.gather(*flood, return_exceptions=True)
    assert 20 == len(waits)
    assert 0.2 + 1e-5 > max(waits)
    assert 100 - 20 <= sum(not isinstance(result, Problem) for result in results)


async def test_names_that_nobody_configured_leave_nothing_behind() -> None:
    """R90: the state is bounded by the configuration."""
    world = World(providers={"p": SharedLimits(concurrency=5)})
    state = world.limits._state
    sizes = [len(state.accounts), len(state._workflows), len(state._lanes)]
    for number in range(1000):
        (await world.limits.admit(f"c{number}", f"w{number}", f"p{number}", deadline=world.now + 1)).release()
    assert [0, 0, 1] == sizes == [len(state.accounts), len(state._workflows), len(state._lanes)]


STEPS = st.lists(
    st.tuples(st.sampled_from("abc"), st.sampled_from(["start", "again", "poll"]), st.floats(0, 0.3)),
    min_size=1,
    max_size=60,
)


@given(STEPS)
def test_no_second_holds_more_calls_than_burst_and_rate(steps: list[tuple[str, str, float]]) -> None:
    """R89: over all clients, retries and polls."""
    calls = asyncio.run(_calls(steps))
    for first, began in enumerate(calls):
        assert 2 + 5 >= sum(1 for at in calls[first:] if at < began + 1 - 1e-5)
    assert all(earlier <= later for earlier, later in pairwise(calls))


async def _calls(steps: list[tuple[str, str, float]]) -> list[float]:
    """The moments at which calls passed a provider with 5/s and a burst of 2."""
    world, calls = World(providers={"p": SharedLimits(Rate(5), 2, max_wait=0.7)}), []
    running = await world.admit("z")
    calls.append(world.now)

    async def one(client: str, kind: str) -> None:
        deadline = world.now + 1.5
        if kind == "start":
            await world.limits.admit(client, "w", "p", deadline=deadline)
        elif kind == "again":
            await running.start_again(deadline=deadline)
        else:
            await running.poll(deadline=deadline)
        calls.append(world.now)

    tasks = []
    for client, kind, pause in steps:
        tasks.append(world.begin(one(client, kind)))
        await world.clock.run_for(pause)
    await world.clock.run_for(2)
    assert all(task.done() for task in tasks)
    await asyncio.gather(*tasks, return_exceptions=True)
    assert 0 == world.limits.waiting("p")
    return calls


async def test_a_run_that_was_started_before_is_neither_refused_nor_charged() -> None:
    """R48: whatever its client and its provider have left, it is asked about; its polls count, as all do (R89)."""
    world = World({"a": ClientLimits(concurrency=1, daily=1)}, providers={"p": SharedLimits(Rate(1), 1, 1)})
    first = await world.admit()
    followed = world.limits.follow("a", "w", "p")
    began = world.clock.monotonic()
    for _ in range(3):
        await world.clock.run_until_done(followed.poll(deadline=began + 100))
    assert 3.0 == pytest.approx(world.clock.monotonic() - began)
    assert ((), 1) == (followed.headers, world.limits.running("p"))
    for admission in (followed, followed, first):
        admission.release()
    assert 0 == world.limits.running("p")
    with pytest.raises(Problem, match="rate_limited"):
        await world.admit()
