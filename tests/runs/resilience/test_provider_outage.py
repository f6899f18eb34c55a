"""Provider outage of a minute with the default settings, on virtual time."""

from __future__ import annotations

import pytest

from gateway.runs.resilience.circuit_breaker import BreakerConfig, CircuitState
from gateway.runs.resilience.retry import RetryPolicy
from gateway.settings.sections import RetrySettings
from providers.contract import Cause, Reply
from tests.runs.executor_harness import (
    DONE,
    DelayedReply,
    ExecutorHarness,
    ScriptStep,
    ending_of_run,
    fault,
    upstream_of,
)

OUTAGES: dict[str, ScriptStep] = {
    "refused": fault(Cause.UNREACHABLE),
    "reset": fault(Cause.DISCONNECTED),
    "garbage": fault(Cause.INVALID_REPLY),
    "502": Reply(502),
    "503 with a hint": Reply(503, retry_after=1.0),
    "hangs for 3 s": DelayedReply(3.0, fault(Cause.DISCONNECTED)),
}


def default_harness() -> ExecutorHarness:
    """Harness with the default settings."""
    settings = RetrySettings()
    return ExecutorHarness(
        retry_policy=RetryPolicy(settings.attempts, settings.backoff, settings.backoff_max),
        breaker_config=BreakerConfig(),
    )


@pytest.mark.parametrize("down", OUTAGES)
async def test_a_minutes_outage_costs_at_most_four_attempts(down: str) -> None:
    """R22, R23: 15 requests, one every 4 s; comparable gateways send 33 and 45 attempts."""
    harness = default_harness()
    workflow = harness.studio(OUTAGES[down])
    started = harness.clock.monotonic()
    endings = []
    for number in range(15):
        harness.clock.advance(max(0.0, started + number * 4 - harness.clock.monotonic()))
        endings.append(ending_of_run(await harness.run(workflow)))
    assert 4 >= upstream_of(workflow).starts == sum(attempts for _, _, attempts in endings)
    assert endings.count(("circuit_open", "not_run", 0)) >= 11


async def test_a_provider_that_comes_back_is_found_by_the_next_probe() -> None:
    """R23: after the outage one probe is sent, and its success closes the circuit."""
    harness = default_harness()
    workflow = harness.studio(*[fault(Cause.UNREACHABLE)] * 3, DONE)
    assert ("upstream_unreachable", "not_run", 3) == ending_of_run(await harness.run(workflow))
    assert ("circuit_open", "not_run", 0) == ending_of_run(await harness.run(workflow))
    harness.clock.advance(10)
    assert [(None, "succeeded", 1)] * 5 == [ending_of_run(await harness.run(workflow)) for _ in range(5)]


async def test_exhausted_local_resources_say_nothing_about_the_provider() -> None:
    """R36: a lack of file descriptors neither opens nor closes a circuit."""
    harness = default_harness()
    short, down = harness.studio(fault(Cause.EXHAUSTED)), harness.studio(fault(Cause.UNREACHABLE))
    breaker = harness.circuits.get("studio", "studio").breaker
    assert {("overloaded", "not_run")} == {ending_of_run(await harness.run(short))[:2] for _ in range(10)}
    assert (CircuitState.CLOSED, 0.0) == (breaker.state, breaker.retry_after())
    while not breaker.retry_after():
        await harness.run(down)
    harness.clock.advance(10)
    assert ("overloaded", "not_run") == ending_of_run(await harness.run(short))[:2]
    assert (CircuitState.OPEN, 0.0) == (breaker.state, breaker.retry_after()), "the next one may try"
