"""Limits that change while they are in use: what was used stays used, who waits keeps its place."""

from __future__ import annotations

import pytest

from gateway.access.limits import ClientLimits, Rate, SharedLimits
from gateway.problems import Problem
from tests.access.virtual_clock import settle
from tests.access.worlds import World


def _change(
    world: World,
    clients: dict[str, ClientLimits] | None = None,
    workflows: dict[str, SharedLimits] | None = None,
    providers: dict[str, SharedLimits] | None = None,
) -> None:
    world.limits.reconfigure(clients=clients or {}, workflows=workflows or {}, providers=providers or {})


async def test_what_a_client_used_stays_used() -> None:
    """R85: its rate, its day and its slots."""
    world = World({"a": ClientLimits(Rate(1), 5, 9, 10)})
    holds = [await world.admit() for _ in range(3)]
    _change(world, {"a": ClientLimits(Rate(1), 4, 9, 8)})
    holds.append(await world.admit())
    assert '"rate";q=4;w=4, "daily";q=8;w=86400, "concurrency";q=9;qu="concurrent-requests"' == holds[3].headers[0][1]
    assert '"rate";r=0;t=1, "daily";r=4;t=43200' == holds[3].headers[1][1]
    _change(world, {"a": ClientLimits(concurrency=4)})
    with pytest.raises(Problem):
        await world.admit()
    holds[0].release()
    assert (await world.admit()).headers[1:] == ()


async def test_a_smaller_rate_takes_at_most_its_own_burst_to_recover() -> None:
    world = World(providers={"p": SharedLimits(Rate(0.01), 10)})
    for _ in range(10):
        await world.admit()
    _change(world, providers={"p": SharedLimits(Rate(2), 1)})
    _, took = await world.finish(world.admit())
    assert 0.5 == pytest.approx(took, abs=1e-5)


async def test_more_slots_let_who_waits_go_in_its_turn() -> None:
    world = World(providers={"p": SharedLimits(concurrency=1)})
    await world.admit()
    waiting = [world.begin(world.admit(client)) for client in "aab"]
    await settle()
    _change(world, providers={"p": SharedLimits(concurrency=3)})
    await settle()
    assert [True, False, True] == [task.done() for task in waiting]
    assert (3, 1) == (world.limits.running("p"), world.limits.waiting("p"))
    waiting[1].cancel()


async def test_fewer_slots_take_nothing_away_and_let_nobody_in_before_enough_are_free() -> None:
    world = World(workflows={"w": SharedLimits(concurrency=5)}, providers={"p": SharedLimits(concurrency=5)})
    holds = [await world.admit() for _ in range(3)]
    _change(world, workflows={"w": SharedLimits(concurrency=1)}, providers={"p": SharedLimits(concurrency=2)})
    waiting = world.begin(world.admit(patience=9))
    for hold in holds[:2]:
        await settle()
        assert not waiting.done()
        hold.release()
    await settle()
    assert not waiting.done()
    holds[2].release()
    await waiting
    assert 1 == world.limits.running("p")


@pytest.mark.parametrize("what", ["workflow", "provider", "client"])
async def test_what_is_gone_limits_nobody_and_its_runs_leave_as_they_should(what: str) -> None:
    one = SharedLimits(concurrency=1, max_wait=9)
    before: dict[str, tuple[dict[str, ClientLimits], dict[str, SharedLimits], dict[str, SharedLimits]]] = {
        "workflow": ({}, {"w": one}, {"p": SharedLimits()}),
        "provider": ({}, {}, {"p": one}),
    }
    world = World(*before.get(what, ({"a": ClientLimits(concurrency=1)}, {}, {"p": one})))
    first = await world.admit()
    waiting = world.begin(world.admit("b"))
    await settle()
    _change(world, providers={"p": SharedLimits()} if what != "provider" else {})
    await settle()
    assert waiting.done()
    first.release()
    waiting.result().release()
    _change(world, {"a": ClientLimits(concurrency=1)}, {"w": one}, {"p": one})
    second = await world.admit()
    assert 1 == world.limits.running("p")
    second.release()
    assert 0 == world.limits.running("p")


async def test_a_client_that_gets_its_first_limit_is_counted_from_then_on() -> None:
    world = World()
    uncounted = await world.admit()
    _change(world, {"a": ClientLimits(concurrency=1)})
    counted = await world.admit()
    uncounted.release()
    with pytest.raises(Problem):
        await world.admit()
    counted.release()
    await world.admit()
