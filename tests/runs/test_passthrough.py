"""Passing a request on: within the limits, once, and again only where nothing can have been sent."""

from __future__ import annotations

import asyncio

import pytest

from gateway.access.limits import ClientLimits, Rate, SharedLimits
from gateway.passages import Passage
from gateway.problems import Problem
from gateway.runs.catalog import Provider
from gateway.runs.passthrough import Passthrough
from providers.contract import Cause, Reply
from providers.promptlayer import PromptLayer
from tests.runs.scripted import Act, Door, World, fault

ALLOWED = {
    "one": {
        "layer": (Passage.read("POST /log-request"), Passage.read("GET /w*")),
        "studio": (Passage.read("GET /other"), Passage.read("POST /log-request")),
    }
}


def passing(world: World, *acts: Act) -> tuple[Passthrough, Door]:
    """What passes on to a provider that does so."""
    door = world.door(*acts)
    providers = {"layer": Provider("layer", PromptLayer(), door)}
    return Passthrough(ALLOWED, providers, limits=world.limits, clock=world.clock, metrics=world.metrics), door


async def carry(passthrough: Passthrough) -> int:
    """Pass one on; the status of its answer."""
    returned = await passthrough.carry(
        "one",
        "layer",
        wanted=lambda: True,
        method="POST",
        path="/log-request",
        query="",
        headers=(),
        body=b"",
        client_key="rw_x",
    )
    return returned.status


async def refusal(passthrough: Passthrough) -> str:
    """Pass one on that meets a problem; its code."""
    with pytest.raises(Problem) as refused:
        await carry(passthrough)
    return refused.value.code


@pytest.mark.parametrize("status", [200, 404, 429, 500, 503])
async def test_whatever_is_answered_is_the_answer(status: int) -> None:
    passthrough, door = passing(World(), Reply(status))
    assert (status, 1) == (await carry(passthrough), len(door.relayed))


async def test_it_has_sixty_seconds() -> None:
    world = World()
    passthrough, door = passing(world, Reply(200))
    await carry(passthrough)
    [(parcel, deadline)] = door.relayed
    assert ("/log-request", 60.0) == (parcel.path, deadline - world.clock.monotonic())


async def test_a_second_try_where_no_connection_was_possible() -> None:
    passthrough, door = passing(World(), fault(Cause.UNREACHABLE), Reply(200))
    assert (200, 2) == (await carry(passthrough), len(door.relayed))


async def test_there_are_two_tries_and_no_more() -> None:
    passthrough, door = passing(World(), fault(Cause.UNREACHABLE))
    assert ("upstream_unreachable", 2) == (await refusal(passthrough), len(door.relayed))


@pytest.mark.parametrize("cause", [c for c in Cause if c is not Cause.UNREACHABLE])
async def test_everything_else_is_sent_once(cause: Cause) -> None:
    """Nobody knows whether it is safe to send it again."""
    passthrough, door = passing(World(), fault(cause))
    await refusal(passthrough)
    assert 1 == len(door.relayed)


async def test_it_counts_in_the_limits_and_leaves_them() -> None:
    """The client's rate and slots, and the provider's."""
    world = World(client=ClientLimits(rate=Rate(2, 3600), burst=2, concurrency=1))
    passthrough, door = passing(world, Reply(200))
    assert [200, 200] == [await carry(passthrough) for _ in range(2)]
    assert ("rate_limited", 2) == (await refusal(passthrough), len(door.relayed))
    world = World(providers={"layer": SharedLimits(rate=Rate(1, 3600), burst=1, max_wait=0)})
    passthrough, door = passing(world, Reply(200))
    assert 200 == await carry(passthrough)
    assert ("overloaded", 1) == (await refusal(passthrough), len(door.relayed))


async def test_a_slot_is_free_again_after_a_fault() -> None:
    passthrough, _ = passing(World(client=ClientLimits(concurrency=1)), fault(Cause.DISCONNECTED))
    assert ["upstream_disconnected"] * 2 == [await refusal(passthrough) for _ in range(2)]


@pytest.mark.parametrize(
    ("client", "method", "path", "expected"),
    [
        ("one", "POST", "/log-request", "layer"),
        ("one", "GET", "/other", "studio"),
        ("one", "GET", "/workflows/x", "layer"),
        ("one", "GET", "/workflows/x/run", None),
        ("one", "GET", "/none", None),
        ("two", "POST", "/log-request", None),
    ],
)
def test_whose_provider_it_is(client: str, method: str, path: str, expected: str | None) -> None:
    """The first that lists it; and nobody's, where it would start a run."""
    passthrough, _ = passing(World())
    assert expected == passthrough.provider(client, method, path)


def test_what_any_client_may_send() -> None:
    passthrough, _ = passing(World())
    found = [passthrough.has(*each) for each in (("GET", "/other"), ("GET", "/workflows/x/run"), ("PUT", "/other"))]
    assert [True, False, False] == found


def test_what_is_allowed_can_change() -> None:
    passthrough, _ = passing(World())
    passthrough.reconfigure({"two": ALLOWED["one"]}, {})
    assert [None, "layer"] == [passthrough.provider(c, "POST", "/log-request") for c in ("one", "two")]
    passthrough.reconfigure({}, {})
    assert not passthrough.has("POST", "/log-request")


async def test_a_provider_that_a_reload_took_away_is_not_asked() -> None:
    """While a body was on its way here."""
    passthrough, door = passing(World(), Reply(200))
    passthrough.reconfigure({}, {})
    assert ("forbidden", 0) == (await refusal(passthrough), len(door.relayed))


async def test_whoever_waits_for_its_turn_has_the_provider_that_it_found() -> None:
    """A reload in the meantime makes no mistake of it."""
    world = World(providers={"layer": SharedLimits(rate=Rate(1, 1), burst=1, max_wait=5)})
    passthrough, door = passing(world, Reply(200))
    await carry(passthrough)
    waiting = asyncio.create_task(carry(passthrough))
    await asyncio.sleep(0)
    passthrough.reconfigure({}, {})
    assert (200, 2) == (await waiting, len(door.relayed))
