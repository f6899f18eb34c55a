"""Traffic shaping by the limits of a provider and a workflow: waits, their ends, and the state after them."""

from __future__ import annotations

import asyncio
import math

import pytest

from gateway.errors import ClientDisconnected, DeadlineExceeded, Overloaded, RateLimited, RunError
from gateway.limits.config import ClientLimitsConfig, RateLimit, ResourceLimitsConfig
from tests.limits.harness import LimiterHarness, refusal
from tests.support.virtual_clock import run_ready_tasks


async def test_a_request_that_cannot_be_admitted_in_time_is_refused_at_once() -> None:
    """R30: a request that cannot be admitted in time does not wait; R85 for a provider: the exact wait."""
    harness = LimiterHarness(providers={"p": ResourceLimitsConfig(RateLimit(1), 1, max_wait=0.5)})
    await harness.admit()
    result, took = await harness.run_and_time(harness.admit())
    assert (Overloaded, "not_run") == refusal(result)
    assert 0.0 == took
    assert isinstance(result, RunError)
    assert pytest.approx(1.0) == result.retry_after
    harness.clock.advance(result.retry_after or 0)
    await harness.admit()
    assert [("provider", "admitted"), ("provider", "refused"), ("provider", "admitted")] == harness.decisions


async def test_requests_ahead_count_in_the_decision_to_refuse_at_once() -> None:
    harness = LimiterHarness(providers={"p": ResourceLimitsConfig(RateLimit(2), 1)})
    await harness.admit()
    waiting = [harness.start_task(harness.admit()) for _ in range(2)]
    await run_ready_tasks()
    result, took = await harness.run_and_time(harness.admit())
    assert (Overloaded, 0.0) == (refusal(result)[0], took)
    await harness.clock.run_for(1)
    assert all(task.done() for task in waiting)


async def test_a_wait_lasts_until_the_rate_allows_the_request() -> None:
    harness = LimiterHarness(providers={"p": ResourceLimitsConfig(RateLimit(2), 1)})
    await harness.admit()
    _, took = await harness.run_and_time(harness.admit())
    assert 0.5 == pytest.approx(took, abs=1e-5)
    assert [("provider", "admitted"), ("provider", "waited")] == harness.decisions


async def test_a_wait_for_a_slot_ends_after_the_providers_max_wait() -> None:
    harness = LimiterHarness(providers={"p": ResourceLimitsConfig(concurrency=1, max_wait=2)})
    await harness.admit()
    result, took = await harness.run_and_time(harness.admit())
    assert ((Overloaded, "not_run"), 2.0) == (refusal(result), took)
    assert isinstance(result, RunError)
    assert 1.0 == result.retry_after
    assert 0 == harness.limiter.waiting("p")


async def test_a_deadline_that_passes_in_the_queue_is_deadline_exceeded() -> None:
    """R31."""
    harness = LimiterHarness(providers={"p": ResourceLimitsConfig(concurrency=1, max_wait=2)})
    await harness.admit()
    result, took = await harness.run_and_time(harness.admit(deadline_in=0.5))
    assert ((DeadlineExceeded, "not_run"), 0.5) == (refusal(result), took)


@pytest.mark.parametrize("workflows", [{}, {"w": ResourceLimitsConfig(concurrency=1)}])
async def test_a_request_past_its_deadline_is_not_admitted(workflows: dict[str, ResourceLimitsConfig]) -> None:
    harness = LimiterHarness(workflows=workflows, providers={"p": ResourceLimitsConfig(concurrency=1)})
    for within in (0.0, -1.0):
        result, took = await harness.run_and_time(harness.admit(deadline_in=within))
        assert ((DeadlineExceeded, "not_run"), 0.0) == (refusal(result), took)
    assert 0 == harness.limiter.running("p")


async def test_a_max_wait_of_zero_refuses_at_once() -> None:
    harness = LimiterHarness(providers={"p": ResourceLimitsConfig(concurrency=1, max_wait=0)})
    await harness.admit()
    result, took = await harness.run_and_time(harness.admit())
    assert (Overloaded, 0.0) == (refusal(result)[0], took)


async def test_a_max_wait_of_the_request_replaces_that_of_the_limits() -> None:
    """For a first start, a fallback and a retried start; for a rate and for a slot."""
    harness = LimiterHarness(
        providers={"p": ResourceLimitsConfig(RateLimit(0.1), 1, max_wait=0.5), "q": ResourceLimitsConfig(concurrency=1)}
    )
    busy = await harness.limiter.admit("b", "w", "q", deadline=math.inf)
    await harness.admit()
    admission, took = await harness.run_and_time(harness.admit(max_wait=30))
    assert not isinstance(admission, RunError)
    assert 10.0 == pytest.approx(took, abs=1e-5)
    _, took = await harness.run_and_time(admission.admit_retry(deadline=math.inf))
    assert 10.0 == pytest.approx(took, abs=1e-5)
    moving = harness.start_task(admission.move_to_fallback("w", "q", deadline=math.inf))
    await harness.clock.run_for(20)
    assert not moving.done()
    busy.release()
    await moving


async def test_a_max_wait_of_the_request_ends_the_wait() -> None:
    harness = LimiterHarness(providers={"p": ResourceLimitsConfig(concurrency=1, max_wait=0.5)})
    await harness.admit()
    result, took = await harness.run_and_time(harness.admit(max_wait=30))
    assert ((Overloaded, "not_run"), 30.0) == (refusal(result), took)
    result, took = await harness.run_and_time(harness.admit(max_wait=math.inf, deadline_in=40))
    assert ((DeadlineExceeded, "not_run"), 40.0) == (refusal(result), took)


async def test_a_blocked_workflow_does_not_delay_other_workflows() -> None:
    harness = LimiterHarness(
        workflows={"slow": ResourceLimitsConfig(concurrency=1, max_wait=5)},
        providers={"p": ResourceLimitsConfig(RateLimit(9))},
    )
    await harness.admit(workflow="slow")
    waiting = harness.start_task(harness.admit(workflow="slow"))
    await run_ready_tasks()
    for client in ("a", "b"):
        _, took = await harness.run_and_time(harness.admit(client, "fast"))
        assert 0.0 == took
    assert not waiting.done()
    waiting.cancel()


async def test_a_wait_for_a_workflow_is_reported_for_the_workflow() -> None:
    harness = LimiterHarness(
        workflows={"w": ResourceLimitsConfig(RateLimit(1), 1)}, providers={"p": ResourceLimitsConfig(RateLimit(9))}
    )
    await harness.admit()
    _, took = await harness.run_and_time(harness.admit())
    assert 1.0 == pytest.approx(took, abs=1e-5)
    assert [("workflow", "waited"), ("provider", "admitted")] == harness.decisions[-2:]


async def test_the_shorter_max_wait_applies() -> None:
    """A workflow may have a shorter `max_wait` than its provider."""
    shared = ResourceLimitsConfig(concurrency=1, max_wait=5)
    harness = LimiterHarness(workflows={"w": ResourceLimitsConfig(concurrency=9, max_wait=2)}, providers={"p": shared})
    await harness.admit()
    result, took = await harness.run_and_time(harness.admit())
    assert (Overloaded, 2.0) == (refusal(result)[0], took)


async def test_a_slot_freed_after_the_deadline_starts_nothing() -> None:
    """R31: the timer was late, and the slot was freed later still; the run is not started."""
    harness = LimiterHarness(providers={"p": ResourceLimitsConfig(concurrency=1)})
    first = await harness.admit()
    waiting = harness.start_task(harness.admit(deadline_in=0.5))
    await run_ready_tasks()
    harness.clock.advance(0.6)
    first.release()
    result, _ = await harness.run_and_time(_result_of(waiting))
    assert (DeadlineExceeded, "not_run") == refusal(result)
    assert 0 == harness.limiter.running("p")


async def test_a_flood_fills_half_of_the_queue_and_the_rest_is_refused_at_once() -> None:
    harness = LimiterHarness(providers={"p": ResourceLimitsConfig(concurrency=1)})
    await harness.admit()
    waiting = [harness.start_task(harness.admit("flood")) for _ in range(600)]
    await run_ready_tasks()
    assert 500 == harness.limiter.waiting("p")
    assert 100 == sum(task.done() and task.exception() is not None for task in waiting)
    other = harness.start_task(harness.admit("other"))
    await run_ready_tasks()
    assert not other.done()
    await harness.clock.run_for(1)
    await asyncio.gather(other, *waiting, return_exceptions=True)
    assert 0 == harness.limiter.waiting("p")


async def test_a_client_whose_limit_is_used_up_during_the_wait_is_refused_after_it() -> None:
    """Nothing is held during the wait: the other request took the rest of the client's rate."""
    harness = LimiterHarness(
        {"a": ClientLimitsConfig(RateLimit(0.01), 1)},
        providers={"p": ResourceLimitsConfig(concurrency=1), "q": ResourceLimitsConfig()},
    )
    first = await harness.admit("b")
    waiting = harness.start_task(harness.admit("a"))
    await run_ready_tasks()
    await harness.limiter.admit("a", "w", "q", deadline=harness.now + 9)
    first.release()
    result, _ = await harness.run_and_time(_result_of(waiting))
    assert (RateLimited, "not_run") == refusal(result)
    assert 0 == harness.limiter.running("p")
    assert ("client", "refused") == harness.decisions[-1]


async def test_a_waiting_request_of_a_disconnected_client_does_not_start() -> None:
    """R32: the client disconnected while its request was queued."""
    harness = LimiterHarness(
        {"a": ClientLimitsConfig(RateLimit(1), 1)}, providers={"p": ResourceLimitsConfig(concurrency=1)}
    )
    first = await harness.admit("b")
    waiting = harness.start_task(
        harness.limiter.admit("a", "w", "p", deadline=harness.now + 9, still_wanted=lambda: False)
    )
    await run_ready_tasks()
    first.release()
    result, _ = await harness.run_and_time(_result_of(waiting))
    assert (ClientDisconnected, "not_run") == refusal(result)
    assert 0 == harness.limiter.running("p")
    await harness.admit("a")


async def test_a_cancelled_wait_leaves_no_trace() -> None:
    harness = LimiterHarness(
        {"a": ClientLimitsConfig(RateLimit(1), 1)},
        providers={"p": ResourceLimitsConfig(RateLimit(1), 2, concurrency=1)},
    )
    first = await harness.admit("b")
    waiting = harness.start_task(harness.admit("a"))
    await run_ready_tasks()
    waiting.cancel()
    await run_ready_tasks()
    assert 0 == harness.limiter.waiting("p")
    first.release()
    await harness.admit("a")


async def test_a_start_cancelled_while_it_is_admitted_gives_everything_back() -> None:
    """R33: the slot was assigned to a request that is cancelled at the same time."""
    harness = LimiterHarness(
        {"a": ClientLimitsConfig(RateLimit(1), 1)},
        providers={"p": ResourceLimitsConfig(RateLimit(1), 2, concurrency=1)},
    )
    first = await harness.admit("b")
    one, two = harness.start_task(harness.admit("a")), harness.start_task(harness.admit("c"))
    await run_ready_tasks()
    first.release()
    one.cancel()
    await run_ready_tasks()
    assert one.cancelled()
    assert (1, 0) == (harness.limiter.running("p"), harness.limiter.waiting("p"))
    (await two).release()
    assert '"rate";r=0;t=1' == (await harness.clock.run_until_done(harness.admit("a"))).headers[1][1]


async def _result_of(task: asyncio.Task[object]) -> object:
    return await task
