"""Admission: moved to a fallback, charged for its calls, and released exactly once."""

from __future__ import annotations

import asyncio
import math

import pytest

from gateway.errors import ClientDisconnected, DeadlineExceeded, Overloaded, RunError
from gateway.limits.admission import Admission
from gateway.limits.config import ClientLimitsConfig, RateLimit, ResourceLimitsConfig
from tests.limits.harness import LimiterHarness, refusal
from tests.support.virtual_clock import run_ready_tasks


def _two_providers(limits: ResourceLimitsConfig, *, client: ClientLimitsConfig | None = None) -> LimiterHarness:
    """Return a harness with two providers and a limited client."""
    return LimiterHarness({"a": client or ClientLimitsConfig(RateLimit(1), 9, 5)}, providers={"p": limits, "q": limits})


async def test_releasing_twice_frees_one_slot() -> None:
    """R90."""
    harness = _two_providers(ResourceLimitsConfig(concurrency=2))
    one, two = await harness.admit(), await harness.admit()
    for _ in range(3):
        one.release()
    assert 1 == harness.limiter.running("p")
    two.refund()
    two.release()
    assert 0 == harness.limiter.running("p")


async def test_the_context_manager_releases_on_success_and_on_error() -> None:
    """R90: on success and on an error."""
    harness = _two_providers(ResourceLimitsConfig(concurrency=1))
    async with await harness.admit() as admission:
        held: Admission = admission
        assert 1 == harness.limiter.running("p")
    with pytest.raises(RuntimeError):
        async with await harness.admit():
            raise RuntimeError
    held.release()
    assert 0 == harness.limiter.running("p")
    assert 0 == harness.limiter.snapshot().clients["a"]


async def test_a_fallback_moves_the_slots_and_charges_the_client_once() -> None:
    harness = _two_providers(ResourceLimitsConfig(RateLimit(1), 5, concurrency=1))
    admission = await harness.admit()
    headers = admission.headers
    await admission.move_to_fallback("other", "q", deadline=math.inf)
    assert (0, 1) == (harness.limiter.running("p"), harness.limiter.running("q"))
    assert headers == admission.headers
    admission.release()
    assert (0, 0) == (harness.limiter.running("p"), harness.limiter.running("q"))
    assert '"rate";r=7;t=1' == (await harness.admit()).headers[1][1]


async def test_a_waiting_fallback_holds_no_slot_of_the_previous_provider() -> None:
    harness = _two_providers(ResourceLimitsConfig(concurrency=1))
    busy = await harness.limiter.admit("b", "w", "q", deadline=math.inf)
    admission = await harness.admit()
    moving = harness.start_task(admission.move_to_fallback("w", "q", deadline=math.inf))
    await run_ready_tasks()
    assert (0, 1) == (harness.limiter.running("p"), harness.limiter.waiting("q"))
    busy.release()
    await moving
    assert 1 == harness.limiter.running("q")
    assert ("provider", "waited") == harness.decisions[-1]


async def test_a_refused_fallback_keeps_only_the_clients_slot() -> None:
    harness = _two_providers(ResourceLimitsConfig(concurrency=1))
    busy = await harness.limiter.admit("b", "w", "q", deadline=math.inf)
    admission = await harness.admit()
    result, _ = await harness.run_and_time(admission.move_to_fallback("w", "q", deadline=math.inf))
    assert (Overloaded, "not_run") == refusal(result)
    assert (0, 1) == (harness.limiter.running("p"), harness.limiter.snapshot().clients["a"])
    admission.release()
    busy.release()
    assert (0, 0) == (harness.limiter.running("q"), harness.limiter.snapshot().clients["a"])


@pytest.mark.parametrize("order", ["free, cancel", "cancel, free", "cancel, settle, free"])
async def test_a_cancelled_fallback_takes_nothing(order: str) -> None:
    """Neither slots nor rates, if cancelled before, after or at the same time as its admission."""
    limits = ResourceLimitsConfig(RateLimit(0.001), 2, concurrency=1)
    harness = LimiterHarness(workflows={"other": limits}, providers={"p": ResourceLimitsConfig(), "q": limits})
    busy = await harness.limiter.admit("b", "w", "q", deadline=math.inf)
    admission = await harness.admit()
    moving = harness.start_task(admission.move_to_fallback("other", "q", deadline=math.inf))
    await run_ready_tasks()
    for step in order.split(", "):
        match step:
            case "free":
                busy.release()
            case "cancel":
                moving.cancel()
            case _:
                await run_ready_tasks()
    await run_ready_tasks()
    assert moving.cancelled()
    assert (0, 0) == (harness.limiter.running("q"), harness.limiter.waiting("q"))
    await admission.move_to_fallback("other", "q", deadline=math.inf)
    await admission.move_to_fallback("other", "p", deadline=math.inf)
    admission.release()
    assert 0 == harness.limiter.running("q")


async def test_a_run_released_during_a_move_takes_nothing() -> None:
    harness = _two_providers(ResourceLimitsConfig(concurrency=1))
    busy = await harness.limiter.admit("b", "w", "q", deadline=math.inf)
    admission = await harness.admit()
    moving = harness.start_task(admission.move_to_fallback("w", "q", deadline=math.inf))
    await run_ready_tasks()
    admission.release()
    busy.release()
    with pytest.raises(RunError):
        await moving
    assert 0 == harness.limiter.running("q")


async def test_a_refund_restores_rates_quota_and_slots() -> None:
    """R86: a refusal after the admission (circuit breaker open) costs no quota."""
    shared = ResourceLimitsConfig(RateLimit(1), 1, concurrency=1)
    harness = LimiterHarness({"a": ClientLimitsConfig(RateLimit(1), 2, daily=3)}, {"w": shared}, {"p": shared})
    first = await harness.admit()
    first.refund()
    assert first.headers == (await harness.admit()).headers


async def test_a_refund_lets_the_next_one_go() -> None:
    harness = _two_providers(ResourceLimitsConfig(RateLimit(1), 1))
    admission = await harness.admit()
    waiting = harness.start_task(harness.admit("b"))
    await run_ready_tasks()
    admission.refund()
    await run_ready_tasks()
    assert waiting.done()


async def test_polls_and_retried_starts_count_in_the_providers_rate() -> None:
    """R89."""
    harness = _two_providers(ResourceLimitsConfig(RateLimit(1), 3))
    admission = await harness.admit()
    await admission.admit_poll(deadline=math.inf)
    await admission.admit_retry(deadline=math.inf)
    _, took = await harness.run_and_time(admission.admit_poll(deadline=math.inf))
    assert 1.0 == pytest.approx(took, abs=1e-5)
    assert [("provider", "admitted"), ("provider", "admitted"), ("provider", "waited")] == harness.decisions[-3:]


async def test_a_start_goes_before_a_poll_that_came_earlier() -> None:
    harness = _two_providers(ResourceLimitsConfig(RateLimit(1), 1))
    admission = await harness.admit()
    poll = harness.start_task(admission.admit_poll(deadline=math.inf))
    await run_ready_tasks()
    start = harness.start_task(harness.admit("b"))
    await harness.clock.run_for(1)
    assert (True, False) == (start.done(), poll.done())
    await harness.clock.run_for(1)
    assert poll.done()


async def test_a_poll_is_not_starved_by_starts() -> None:
    """The end of a run is always seen: after `max_wait` the poll is served before all starts."""
    harness = _two_providers(ResourceLimitsConfig(RateLimit(10), 1, max_wait=0.5))
    admission = await harness.admit()
    poll, starts = harness.start_task(admission.admit_poll(deadline=math.inf)), []
    started_at = harness.now
    while not poll.done() and harness.now < started_at + 2:
        starts += [harness.start_task(harness.admit(f"c{n}")) for n in range(3)]
        await harness.clock.run_for(0.1)
    assert 0.5 <= harness.now - started_at <= 0.7 + 1e-5
    await harness.clock.run_for(2)
    await asyncio.gather(*starts, return_exceptions=True)


async def test_a_poll_waits_until_its_deadline_and_ends_as_unknown() -> None:
    harness = _two_providers(ResourceLimitsConfig(RateLimit(0.1), 1))
    admission = await harness.admit()
    result, took = await harness.run_and_time(admission.admit_poll(deadline=harness.now + 5))
    assert ((DeadlineExceeded, "unknown"), 5.0) == (refusal(result), took)


async def test_a_retried_start_that_cannot_be_admitted_in_time_is_refused_at_once() -> None:
    harness = _two_providers(ResourceLimitsConfig(RateLimit(0.1), 1))
    admission = await harness.admit()
    result, took = await harness.run_and_time(admission.admit_retry(deadline=math.inf))
    assert ((Overloaded, "not_run"), 0.0) == (refusal(result), took)
    assert isinstance(result, RunError)
    harness.clock.advance(result.retry_after or 0)
    await admission.admit_retry(deadline=math.inf)


async def test_a_retried_start_waits_before_all_first_ones() -> None:
    harness = _two_providers(ResourceLimitsConfig(RateLimit(10), 1))
    admission = await harness.admit()
    first = harness.start_task(harness.admit("b"))
    await run_ready_tasks()
    retry = harness.start_task(admission.admit_retry(deadline=math.inf))
    await harness.clock.run_for(0.1)
    assert (True, False) == (retry.done(), first.done())
    await harness.clock.run_for(0.1)
    assert first.done()


@pytest.mark.parametrize("kind", ["admit_poll", "admit_retry"])
async def test_a_call_cancelled_while_it_is_admitted_gives_its_charge_to_the_next_call(kind: str) -> None:
    harness = _two_providers(ResourceLimitsConfig(RateLimit(1), 1, max_wait=5))
    admission = await harness.admit()
    calls = [harness.start_task(getattr(admission, kind)(deadline=harness.now + 9)) for _ in range(2)]
    await run_ready_tasks()
    harness.clock.advance(1)
    harness.limiter.reconfigure(harness.config)  # dispatches: the first call is admitted
    calls[0].cancel()
    await run_ready_tasks()
    assert (True, True) == (calls[0].cancelled(), calls[1].done())
    await calls[1]


async def test_a_poll_is_made_for_a_disconnected_client() -> None:
    """The run has started, so its ending has to be known."""
    harness = _two_providers(ResourceLimitsConfig(RateLimit(1), 1))
    admission = await harness.limiter.admit("a", "w", "p", deadline=math.inf, still_wanted=lambda: False)
    result, took = await harness.run_and_time(admission.admit_poll(deadline=math.inf))
    assert not isinstance(result, RunError)
    assert 1.0 == pytest.approx(took, abs=1e-5)
    result, _ = await harness.run_and_time(admission.admit_retry(deadline=math.inf))
    assert ClientDisconnected == refusal(result)[0]
