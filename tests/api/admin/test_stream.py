"""Events of the console: one snapshot each second for all tabs, bounded, and ended when keys may have changed."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
import structlog

from gateway.api.admin.live_feed import MAX_TABS, LiveFeed
from gateway.auth.keys import hash_key, new_key
from gateway.clock import SystemClock
from gateway.json import strict_json
from gateway.observability.metrics import Metrics
from gateway.problems import Problem
from gateway.store.contract import StoreUnavailable
from gateway.store.memory.store import MemoryStore
from tests.support.clock import ManualClock
from tests.support.config_files import write_gateway_config
from tests.support.runs_port import RunsPort, runs_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from gateway.runs.attention.monitor import AttentionMonitor
    from gateway.store.records import RunPage
    from gateway.store.run_filter import RunFilter
    from tests.conftest import StartGateway
    from tests.support.fake_upstream.upstream import FakeUpstream


@pytest.fixture(params=[False, True], ids=["one process", "workers"])
async def port(request: pytest.FixtureRequest) -> AsyncIterator[RunsPort]:
    async with runs_port(SystemClock(), supervised=request.param) as running:
        yield running


async def read_events(answer: aiohttp.ClientResponse, name: str, count: int) -> list[Any]:
    """Return the data of the next events of this name."""
    found: list[Any] = []
    async with asyncio.timeout(20):
        event = ""
        while len(found) < count and (line := await answer.content.readline()):
            field, _, value = line.decode().rstrip("\n").partition(": ")
            if field == "event":
                event = value
            elif field == "data" and event == name:
                found.append(strict_json.read(value.encode()))
    return found


async def test_a_tab_gets_ticks_and_changed_runs(port: RunsPort, session: aiohttp.ClientSession) -> None:
    """The runs are those of the list."""
    async with session.get(port.url + "/api/stream") as answer:
        assert (200, "text/event-stream") == (answer.status, answer.content_type)
        assert "no-store" == answer.headers["Cache-Control"]
        (tick,) = await read_events(answer, "tick", 1)
        assert {"at", "runs_per_second", "in_flight", "outcomes", "attention"} == tick.keys()
        assert {"succeeded": 0, "failed": 0, "unknown": 0, "not_run": 0} == tick["outcomes"]
        run_id = await port.start(1, tags=["a"])
        (started,) = await read_events(answer, "runs", 1)
        assert ([(run_id, "queued")], False) == (
            [(run["id"], run["status"]) for run in started["runs"]],
            started["more"],
        )
        await port.end(1)
        (ended,) = await read_events(answer, "runs", 1)
        async with session.get(port.url + "/api/runs") as listed:
            assert (await listed.json())["runs"] == ended["runs"]
        assert isinstance((await read_events(answer, "tick", 1))[0]["attention"], int)


async def test_many_changes_are_cut(port: RunsPort, session: aiohttp.ClientSession) -> None:
    async with session.get(port.url + "/api/stream") as answer:
        await read_events(answer, "tick", 1)
        for number in range(60):
            await port.record(number)
        (event,) = await read_events(answer, "runs", 1)
        shown = len(event["runs"])
        assert shown <= 50
        assert event["more"] or shown < 60


async def test_a_head_request_opens_no_stream(port: RunsPort, session: aiohttp.ClientSession) -> None:
    async with session.head(port.url + "/api/stream") as answer:
        assert (200, b"") == (answer.status, await answer.read())


class CountingStore(MemoryStore):
    """Memory store that counts lists, and fails if told to."""

    lists = 0
    fails = False

    async def list_runs(self, run_filter: RunFilter) -> RunPage:
        self.lists += 1
        if self.fails:
            raise StoreUnavailable
        return await super().list_runs(run_filter)


class NoAttention:
    """Monitor whose sources fail."""

    async def collect(self) -> None:
        raise StoreUnavailable


class SteppedClock(ManualClock):
    """Virtual clock whose sleeps end when the test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.sleepers: list[asyncio.Future[None]] = []

    async def sleep(self, seconds: float) -> None:
        del seconds
        self.sleepers.append(asyncio.get_running_loop().create_future())
        await self.sleepers[-1]

    async def step(self) -> None:
        """Advance by a second."""
        self.advance(1)
        sleepers, self.sleepers = self.sleepers, []
        for sleeper in sleepers:
            if not sleeper.done():
                sleeper.set_result(None)
        for _ in range(20):
            await asyncio.sleep(0)


async def feed_of(clock: SteppedClock) -> tuple[LiveFeed, CountingStore, Metrics]:
    store, metrics = CountingStore(clock), Metrics()
    await store.open()
    monitor: AttentionMonitor = NoAttention()  # type: ignore[assignment]
    log = structlog.wrap_logger(None, processors=[structlog.testing.LogCapture()])
    return LiveFeed(store, metrics.read, monitor, clock, log), store, metrics


def tick_of(events: bytes | None) -> Any:
    assert events is not None
    return strict_json.read(events.split(b"data: ")[1].split(b"\n")[0])


async def test_all_tabs_share_one_snapshot() -> None:
    """And without tabs the store is not read."""
    clock = SteppedClock()
    feed, store, metrics = await feed_of(clock)
    tabs = [feed.subscribe() for _ in range(5)]
    await clock.step()
    for _ in range(4):
        metrics.run_ended("one", "triage", "studio", "succeeded")
    await clock.step()
    reads = store.lists
    assert reads <= 3
    assert {tab.qsize() for tab in tabs} == {reads}
    events = [tabs[0].get_nowait() for _ in range(reads)]
    assert {"outcomes": {"succeeded": 4, "failed": 0, "unknown": 0, "not_run": 0}, "attention": None}.items() <= (
        tick_of(events[-1]).items()
    )
    assert 2.0 <= tick_of(events[-1])["runs_per_second"] <= 4.0
    for tab in tabs:
        feed.unsubscribe(tab)
    await clock.step()
    assert reads == store.lists


async def test_a_store_that_fails_stops_no_tick() -> None:
    clock = SteppedClock()
    feed, store, _ = await feed_of(clock)
    store.fails = True
    tab = feed.subscribe()
    await clock.step()
    assert b"event: tick" in (tab.get_nowait() or b"")
    feed.unsubscribe(tab)


async def test_a_tab_that_does_not_read_is_ended() -> None:
    clock = SteppedClock()
    feed, _, _ = await feed_of(clock)
    slow, quick = feed.subscribe(), feed.subscribe()
    for _ in range(12):
        await clock.step()
        while not quick.empty():
            assert quick.get_nowait() is not None
    assert (1, None) == (slow.qsize(), slow.get_nowait())
    feed.unsubscribe(slow)
    await clock.step()
    assert not quick.empty()
    feed.unsubscribe(quick)


async def test_the_number_of_tabs_is_bounded() -> None:
    feed, _, _ = await feed_of(SteppedClock())
    tabs = [feed.subscribe() for _ in range(MAX_TABS)]
    with pytest.raises(Problem) as refused:
        feed.subscribe()
    assert ("overloaded", 503) == (refused.value.code, refused.value.status)
    feed.unsubscribe(tabs[0])
    feed.subscribe()
    feed.end_all()
    assert tabs[1].get_nowait() is None


async def test_a_reload_ends_the_stream_of_a_removed_key(
    gateway: StartGateway, upstream: FakeUpstream, session: aiohttp.ClientSession
) -> None:
    """Also at once when the gateway stops."""
    first, second = (new_key(SystemClock()) for _ in range(2))
    running = await gateway(server={"ops_keys": [{"hash": hash_key(first)}]})
    url = running.ops_url + "/api/stream"
    async with session.get(url) as answer:
        assert 401 == answer.status
    async with session.get(url, headers={"X-API-KEY": first}) as answer:
        assert 1 == len(await read_events(answer, "tick", 1))
        write_gateway_config(running, upstream.url, server={"ops_keys": [{"hash": hash_key(second)}]})
        async with asyncio.timeout(20):
            await answer.content.read()  # to its end
    async with session.get(url, headers={"X-API-KEY": first}) as answer:
        assert 401 == answer.status
    async with session.get(url, headers={"X-API-KEY": second}) as answer:
        assert 1 == len(await read_events(answer, "tick", 1))
        assert 0 == await running.stop()
