"""The limiter as a whole, on virtual time."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import Overloaded, RateLimited, RunError
from gateway.limits.config import ClientLimitsConfig, LimiterSnapshot, LimitsConfig, RateLimit, ResourceLimitsConfig
from gateway.limits.limiter import Limiter
from tests.limits.harness import LimiterHarness, refusal
from tests.support.virtual_clock import VirtualClock, run_ready_tasks


async def test_a_limiter_without_a_configuration_admits_everything() -> None:
    limiter = Limiter(VirtualClock(), LimitsConfig())
    (await limiter.admit("a", "w", "p", deadline=1e9)).release()
    assert {} == limiter.snapshot().providers


async def test_ten_of_a_hundred_at_once_pass() -> None:
    """R85: RateLimited with the exact wait, which is sufficient. R86: 90 refusals cost nothing."""
    harness = LimiterHarness(
        {"a": ClientLimitsConfig(RateLimit(10), 10)}, providers={"p": ResourceLimitsConfig(RateLimit(100), 100)}
    )
    results = await asyncio.gather(*(harness.admit() for _ in range(100)), return_exceptions=True)
    problems = [result for result in results if isinstance(result, RunError)]
    assert 90 == len(problems)
    assert {RateLimited} == {type(problem) for problem in problems}
    assert pytest.approx(0.1) == problems[-1].retry_after
    harness.clock.advance(problems[-1].retry_after or 0)
    admission = await harness.admit()
    assert ("RateLimit", '"rate";r=0;t=1') == admission.headers[1]
    assert [("client", "admitted"), ("provider", "admitted")] == harness.decisions[-2:]
    assert 90 == harness.decisions.count(("client", "refused"))


async def test_a_client_without_limits_has_no_header_fields() -> None:
    harness = LimiterHarness({"a": ClientLimitsConfig()}, providers={"p": ResourceLimitsConfig(RateLimit(1), 2)})
    for client in ("a", "unknown"):
        assert () == (await harness.admit(client)).headers


async def test_a_refusal_by_the_provider_costs_the_client_nothing() -> None:
    """R86: every part or none; the provider blocks, so the client's rate and quota are unchanged."""
    harness = LimiterHarness(
        {"a": ClientLimitsConfig(RateLimit(1), 2, daily=10)}, providers={"p": ResourceLimitsConfig(concurrency=1)}
    )
    first = await harness.admit()
    result, _ = await harness.run_and_time(harness.admit())
    assert (Overloaded, "not_run") == refusal(result)
    first.release()
    harness.clock.advance(10)
    assert '"rate";r=1;t=1, "daily";r=8;t=43189' == (await harness.admit()).headers[1][1]


async def test_a_refusal_by_the_client_costs_the_provider_nothing() -> None:
    """R86: the client blocks, so the provider's usage is unchanged."""
    harness = LimiterHarness(
        {"a": ClientLimitsConfig(concurrency=0)}, providers={"p": ResourceLimitsConfig(RateLimit(1), 1, concurrency=1)}
    )
    with pytest.raises(RunError):
        await harness.admit("a")
    await harness.admit("b")
    assert 1 == harness.limiter.running("p")


async def test_a_step_of_the_wall_clock_changes_nothing() -> None:
    """R87: neither rates nor waits nor the daily quota."""
    harness = LimiterHarness(
        {"a": ClientLimitsConfig(RateLimit(1), 5, daily=5)}, providers={"p": ResourceLimitsConfig(RateLimit(1), 1)}
    )
    await harness.admit()
    waiting = harness.start_task(harness.admit())
    await run_ready_tasks()
    for step in (3600, -7200):
        harness.clock.step_wall(step)
    await harness.clock.run_for(0.99)
    assert not waiting.done()
    await harness.clock.run_for(0.02)
    assert '"rate";r=4;t=1, "daily";r=3;t=43200' == (await waiting).headers[1][1]


async def test_a_flood_of_one_client_does_not_touch_another() -> None:
    """R88: one client floods at 100 times the provider's rate; each request of the other waits for one run at most."""
    harness = LimiterHarness(providers={"p": ResourceLimitsConfig(RateLimit(10), 1)})
    flood, waits = [], []

    async def polite() -> None:
        started_at = harness.now
        (await harness.admit("polite")).release()
        waits.append(harness.now - started_at)

    others = []
    for tick in range(1000):
        flood += [harness.start_task(harness.admit("flood")) for _ in range(10)]
        if tick % 50 == 25:
            others.append(harness.start_task(polite()))
        await harness.clock.run_for(0.01)
    await harness.clock.run_for(2)
    await asyncio.gather(*others)
    results = await asyncio.gather(*flood, return_exceptions=True)
    assert 20 == len(waits)
    assert 0.2 + 1e-5 > max(waits)
    assert 100 - 20 <= sum(not isinstance(result, RunError) for result in results)


async def test_names_that_are_not_configured_leave_no_state() -> None:
    """R90: the state is bounded by the configuration."""
    harness = LimiterHarness(providers={"p": ResourceLimitsConfig(concurrency=5)})
    before = harness.limiter.snapshot()
    for number in range(1000):
        (await harness.limiter.admit(f"c{number}", f"w{number}", f"p{number}", deadline=harness.now + 1)).release()
    assert before == harness.limiter.snapshot()
    assert {"p": 0} == before.providers
    assert {} == {**before.clients, **before.workflows}


STEPS = st.lists(
    st.tuples(st.sampled_from("abc"), st.sampled_from(["start", "again", "poll"]), st.floats(0, 0.3)),
    min_size=1,
    max_size=60,
)


@given(STEPS)
def test_no_second_holds_more_calls_than_burst_and_rate(steps: list[tuple[str, str, float]]) -> None:
    """R89: over all clients, retries and polls."""
    calls = asyncio.run(_call_times(steps))
    for first, started_at in enumerate(calls):
        assert 2 + 5 >= sum(1 for at in calls[first:] if at < started_at + 1 - 1e-5)
    assert all(earlier <= later for earlier, later in pairwise(calls))


async def _call_times(steps: list[tuple[str, str, float]]) -> list[float]:
    """Return the times at which calls passed a provider with 5/s and a burst of 2."""
    harness, calls = LimiterHarness(providers={"p": ResourceLimitsConfig(RateLimit(5), 2, max_wait=0.7)}), []
    running = await harness.admit("z")
    calls.append(harness.now)

    async def one(client: str, kind: str) -> None:
        deadline = harness.now + 1.5
        if kind == "start":
            await harness.limiter.admit(client, "w", "p", deadline=deadline)
        elif kind == "again":
            await running.admit_retry(deadline=deadline)
        else:
            await running.admit_poll(deadline=deadline)
        calls.append(harness.now)

    tasks = []
    for client, kind, pause in steps:
        tasks.append(harness.start_task(one(client, kind)))
        await harness.clock.run_for(pause)
    await harness.clock.run_for(2)
    assert all(task.done() for task in tasks)
    await asyncio.gather(*tasks, return_exceptions=True)
    assert 0 == harness.limiter.waiting("p")
    return calls


async def test_a_run_that_was_started_before_is_neither_refused_nor_charged() -> None:
    """R48: it is polled whatever its client and provider have left; its polls count, as all do (R89)."""
    harness = LimiterHarness(
        {"a": ClientLimitsConfig(concurrency=1, daily=1)}, providers={"p": ResourceLimitsConfig(RateLimit(1), 1, 1)}
    )
    first = await harness.admit()
    followed = harness.limiter.admit_adopted("a", "w", "p")
    started_at = harness.clock.monotonic()
    for _ in range(3):
        await harness.clock.run_until_done(followed.admit_poll(deadline=started_at + 100))
    assert 3.0 == pytest.approx(harness.clock.monotonic() - started_at)
    assert ((), 1) == (followed.headers, harness.limiter.running("p"))
    for admission in (followed, followed, first):
        admission.release()
    assert 0 == harness.limiter.running("p")
    with pytest.raises(RateLimited):
        await harness.admit()


async def test_a_snapshot_has_the_slots_in_use_and_the_waiting_requests() -> None:
    harness = LimiterHarness(
        {"a": ClientLimitsConfig(concurrency=5)},
        {"w": ResourceLimitsConfig(concurrency=5)},
        {"p": ResourceLimitsConfig(concurrency=1)},
        teams={"t": ClientLimitsConfig(concurrency=5)},
        team_of={"a": "t"},
    )
    await harness.admit()
    waiting = harness.start_task(harness.admit())
    await run_ready_tasks()
    expected = LimiterSnapshot(
        clients={"a": 1},
        teams={"t": 1},
        workflows={"w": 1},
        providers={"p": 1},
        waiting={"p": 1},
        timers=1,
        shared=False,
        replicas=1,
    )
    assert expected == harness.limiter.snapshot()
    waiting.cancel()
