"""A provider that is down for a minute, met with the default settings: the whole engine on virtual time."""

from __future__ import annotations

import pytest

from gateway.runs.breaker import State, Tolerance
from gateway.runs.retry import Policy
from gateway.settings.sections import RetrySettings
from providers.contract import Cause, Reply
from tests.runs.scripted import DONE, Act, Late, World, door_of, ending, fault

DOWN: dict[str, Act] = {
    "refused": fault(Cause.UNREACHABLE),
    "reset": fault(Cause.DISCONNECTED),
    "garbage": fault(Cause.INVALID_REPLY),
    "502": Reply(502),
    "503 with a hint": Reply(503, retry_after=1.0),
    "hangs for 3 s": Late(3.0, fault(Cause.DISCONNECTED)),
}


def world() -> World:
    """One with the numbers that are used where nothing is configured."""
    settings = RetrySettings()
    return World(policy=Policy(settings.attempts, settings.backoff, settings.backoff_max), tolerance=Tolerance())


@pytest.mark.parametrize("down", DOWN)
async def test_a_minutes_outage_costs_at_most_four_attempts(down: str) -> None:
    """R22, R23: 15 requests, one every 4 s; for the same, two of the peers send 33 and 45 attempts."""
    usual = world()
    workflow = usual.studio(DOWN[down])
    began = usual.clock.monotonic()
    endings = []
    for number in range(15):
        usual.clock.advance(max(0.0, began + number * 4 - usual.clock.monotonic()))
        endings.append(ending(await usual.run(workflow)))
    assert 4 >= door_of(workflow).starts == sum(attempts for _, _, attempts in endings)
    assert endings.count(("circuit_open", "not_run", 0)) >= 11


async def test_a_provider_that_comes_back_is_found_by_the_next_probe() -> None:
    """R23: after the outage one run tries, and with its success everybody is let in again."""
    usual = world()
    workflow = usual.studio(*[fault(Cause.UNREACHABLE)] * 3, DONE)
    assert ("upstream_unreachable", "not_run", 3) == ending(await usual.run(workflow))
    assert ("circuit_open", "not_run", 0) == ending(await usual.run(workflow))
    usual.clock.advance(10)
    assert [(None, "succeeded", 1)] * 5 == [ending(await usual.run(workflow)) for _ in range(5)]


async def test_a_lack_of_our_own_says_nothing_about_the_provider() -> None:
    """R36: that this replica has no file descriptor left opens no circuit, and closes none."""
    usual = world()
    short, down = usual.studio(fault(Cause.EXHAUSTED)), usual.studio(fault(Cause.UNREACHABLE))
    breaker = usual.guards.of("studio", "studio").breaker
    assert {("overloaded", "not_run")} == {ending(await usual.run(short))[:2] for _ in range(10)}
    assert (State.CLOSED, 0.0) == (breaker.state, breaker.retry_after())
    while not breaker.retry_after():
        await usual.run(down)
    usual.clock.advance(10)
    assert ("overloaded", "not_run") == ending(await usual.run(short))[:2]
    assert (State.OPEN, 0.0) == (breaker.state, breaker.retry_after()), "the next one may try"
