"""Limits that change while they are in use: usage is kept, and waiting requests stay queued."""

from __future__ import annotations

import pytest

from gateway.errors import RunError
from gateway.limits.config import ClientLimitsConfig, LimitsConfig, RateLimit, ResourceLimitsConfig
from tests.limits.harness import LimiterHarness
from tests.support.virtual_clock import run_ready_tasks


def _reconfigure(
    harness: LimiterHarness,
    clients: dict[str, ClientLimitsConfig] | None = None,
    workflows: dict[str, ResourceLimitsConfig] | None = None,
    providers: dict[str, ResourceLimitsConfig] | None = None,
) -> None:
    harness.limiter.reconfigure(LimitsConfig(clients or {}, workflows or {}, providers or {}))


async def test_new_limits_keep_the_usage_of_a_client() -> None:
    """R85: rate, daily quota and slots."""
    harness = LimiterHarness({"a": ClientLimitsConfig(RateLimit(1), 5, 9, 10)})
    admissions = [await harness.admit() for _ in range(3)]
    _reconfigure(harness, {"a": ClientLimitsConfig(RateLimit(1), 4, 9, 8)})
    admissions.append(await harness.admit())
    assert (
        '"rate";q=4;w=4, "daily";q=8;w=86400, "concurrency";q=9;qu="concurrent-requests"' == admissions[3].headers[0][1]
    )
    assert '"rate";r=0;t=1, "daily";r=4;t=43200' == admissions[3].headers[1][1]
    _reconfigure(harness, {"a": ClientLimitsConfig(concurrency=4)})
    with pytest.raises(RunError):
        await harness.admit()
    admissions[0].release()
    assert (await harness.admit()).headers[1:] == ()


async def test_a_smaller_rate_takes_at_most_its_own_burst_to_recover() -> None:
    harness = LimiterHarness(providers={"p": ResourceLimitsConfig(RateLimit(0.01), 10)})
    for _ in range(10):
        await harness.admit()
    _reconfigure(harness, providers={"p": ResourceLimitsConfig(RateLimit(2), 1)})
    _, took = await harness.run_and_time(harness.admit())
    assert 0.5 == pytest.approx(took, abs=1e-5)


async def test_more_slots_admit_waiting_requests_in_order() -> None:
    harness = LimiterHarness(providers={"p": ResourceLimitsConfig(concurrency=1)})
    await harness.admit()
    waiting = [harness.start_task(harness.admit(client)) for client in "aab"]
    await run_ready_tasks()
    _reconfigure(harness, providers={"p": ResourceLimitsConfig(concurrency=3)})
    await run_ready_tasks()
    assert [True, False, True] == [task.done() for task in waiting]
    assert (3, 1) == (harness.limiter.running("p"), harness.limiter.waiting("p"))
    waiting[1].cancel()


async def test_fewer_slots_keep_running_runs_and_admit_no_request_until_enough_are_free() -> None:
    harness = LimiterHarness(
        workflows={"w": ResourceLimitsConfig(concurrency=5)}, providers={"p": ResourceLimitsConfig(concurrency=5)}
    )
    admissions = [await harness.admit() for _ in range(3)]
    _reconfigure(
        harness,
        workflows={"w": ResourceLimitsConfig(concurrency=1)},
        providers={"p": ResourceLimitsConfig(concurrency=2)},
    )
    waiting = harness.start_task(harness.admit(max_wait=9))
    for admission in admissions[:2]:
        await run_ready_tasks()
        assert not waiting.done()
        admission.release()
    await run_ready_tasks()
    assert not waiting.done()
    admissions[2].release()
    await waiting
    assert 1 == harness.limiter.running("p")


@pytest.mark.parametrize("what", ["workflow", "provider", "client"])
async def test_a_removed_limit_blocks_no_request_and_its_runs_are_released(what: str) -> None:
    one = ResourceLimitsConfig(concurrency=1, max_wait=9)
    before: dict[
        str, tuple[dict[str, ClientLimitsConfig], dict[str, ResourceLimitsConfig], dict[str, ResourceLimitsConfig]]
    ] = {
        "workflow": ({}, {"w": one}, {"p": ResourceLimitsConfig()}),
        "provider": ({}, {}, {"p": one}),
    }
    harness = LimiterHarness(*before.get(what, ({"a": ClientLimitsConfig(concurrency=1)}, {}, {"p": one})))
    first = await harness.admit()
    waiting = harness.start_task(harness.admit("b"))
    await run_ready_tasks()
    _reconfigure(harness, providers={"p": ResourceLimitsConfig()} if what != "provider" else {})
    await run_ready_tasks()
    assert waiting.done()
    first.release()
    waiting.result().release()
    _reconfigure(harness, {"a": ClientLimitsConfig(concurrency=1)}, {"w": one}, {"p": one})
    second = await harness.admit()
    assert 1 == harness.limiter.running("p")
    second.release()
    assert 0 == harness.limiter.running("p")


async def test_a_client_is_counted_from_its_first_limit_on() -> None:
    harness = LimiterHarness()
    uncounted = await harness.admit()
    _reconfigure(harness, {"a": ClientLimitsConfig(concurrency=1)})
    counted = await harness.admit()
    uncounted.release()
    with pytest.raises(RunError):
        await harness.admit()
    counted.release()
    await harness.admit()
