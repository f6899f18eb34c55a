"""Daily usage in a store: neither a restart nor a crash renews a quota."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace

import pytest
import structlog

from gateway.errors import RateLimited
from gateway.limits.config import ClientLimitsConfig
from gateway.limits.daily_usage import DailyUsageRecorder, Usage
from tests.limits.harness import LimiterHarness
from tests.support.virtual_clock import VirtualClock


@dataclass
class Store:
    """Daily usage in memory. `written`: every write in order. While `blocked`, no write returns."""

    usage: dict[str, Usage] = field(default_factory=dict)
    written: list[tuple[str, int]] = field(default_factory=list)
    failing: bool = False
    unblocked: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.unblocked.set()

    async def get_daily_usage(self) -> dict[str, Usage]:
        return dict(self.usage)

    async def set_daily_usage(self, client: str, usage: Usage) -> None:
        await self.unblocked.wait()
        if self.failing:
            raise OSError("the disk is full")
        self.usage[client] = usage
        self.written.append((client, usage[0]))


async def process(store: Store, clock: VirtualClock, *, daily: int = 3) -> LimiterHarness:
    """Return the limiter of a process that counts in `store`; client "a" has a daily quota."""
    harness = LimiterHarness({"a": ClientLimitsConfig(daily=daily)}, clock=clock)
    await harness.limiter.record_usage(DailyUsageRecorder(store, clock, structlog.get_logger()))
    return harness


async def admitted(harness: LimiterHarness, requests: int) -> int:
    """Return the number of admitted requests."""
    count = 0
    for _ in range(requests):
        try:
            (await harness.admit()).release()
        except RateLimited:
            continue
        count += 1
    return count


async def test_a_crash_renews_no_quota() -> None:
    store, clock = Store(), VirtualClock()
    assert [2, 1, 0] == [await admitted(await process(store, clock), requests) for requests in (2, 9, 9)]


async def test_a_new_day_renews_the_quota_after_a_restart() -> None:
    store, clock = Store(), VirtualClock()
    first = await process(store, clock)
    assert 3 == await admitted(first, 9)
    clock.advance(12 * 3600)
    second = await process(store, clock)
    assert (3, 3) == (await admitted(second, 9), await admitted(first, 9))


async def test_a_request_waits_until_the_store_counts_it() -> None:
    store, clock = Store(), VirtualClock()
    harness = await process(store, clock)
    store.unblocked.clear()
    asking = [asyncio.create_task(harness.admit()) for _ in range(2)]
    await asyncio.sleep(0.01)
    assert [False, False] == [task.done() for task in asking]
    store.unblocked.set()
    await asyncio.gather(*asking)
    assert [("a", 2)] == store.written[-1:]


async def test_a_request_cancelled_meanwhile_is_refunded() -> None:
    store, clock = Store(), VirtualClock()
    harness = await process(store, clock)
    store.unblocked.clear()
    asking = asyncio.create_task(harness.admit())
    await asyncio.sleep(0.01)
    asking.cancel()
    await asyncio.wait([asking])
    store.unblocked.set()
    assert (3, 0) == (await admitted(harness, 9), harness.limiter.snapshot().clients["a"])


async def test_an_unavailable_store_refuses_nothing() -> None:
    """The quota holds for this process; once the store is available, it counts everything."""
    store, clock = Store(), VirtualClock()
    harness = await process(store, clock)
    store.failing = True
    assert 2 == await admitted(harness, 2)
    store.failing = False
    await admitted(harness, 1)
    await harness.limiter.store_usage()
    assert 0 == await admitted(await process(store, clock), 9)


async def test_a_store_that_hangs_delays_one_request_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.limits.daily_usage._MAX_WAIT", 0.01)
    store, clock = Store(), VirtualClock()
    harness = await process(store, clock)
    store.unblocked.clear()
    assert 3 == await admitted(harness, 9)
    store.unblocked.set()
    await harness.limiter.store_usage()
    assert 3 == store.usage["a"][0]


async def test_the_store_is_ahead_of_a_large_quota_by_half_a_percent() -> None:
    """R85: a crash forfeits that part; a normal end forfeits nothing."""
    store, clock = Store(), VirtualClock()
    harness = await process(store, clock, daily=10_000)
    assert 1000 == await admitted(harness, 1000)
    assert 1000 < store.usage["a"][0] <= 1050
    assert len(store.written) <= 50
    await harness.limiter.store_usage()
    assert 1000 == store.usage["a"][0]


async def test_a_client_that_is_removed_and_added_again_keeps_its_usage() -> None:
    store, clock = Store(), VirtualClock()
    harness = await process(store, clock)
    assert 2 == await admitted(harness, 2)
    harness.limiter.reconfigure(replace(harness.config, clients={}))
    harness.limiter.reconfigure(harness.config)
    assert 1 == await admitted(harness, 9)


async def test_a_request_is_written_once() -> None:
    store, clock = Store(), VirtualClock()
    harness = await process(store, clock, daily=50)
    assert 3 == await admitted(harness, 3)
    await asyncio.sleep(0.01)
    assert [("a", 1), ("a", 2), ("a", 3)] == store.written
