"""Hints: whoever waits for a run that a provider calls about asks at once; nothing else that may come does anything."""

from __future__ import annotations

import asyncio

import structlog
from structlog.testing import LogCapture

from gateway.metrics import Metrics
from gateway.runs.hints import Hints
from gateway.store.contract import StoreUnavailable
from gateway.store.memory import MemoryStore
from tests.access.virtual_clock import VirtualClock, settle
from tests.test_metrics import value

RUN = "run_0123456789abcdef0123456789abcdef"


class Deaf(MemoryStore):
    """A store that neither tells nor waits once it is `gone`, and wakes whoever waits where it is `restless`."""

    gone = False
    restless = False

    async def tell(self, name: str) -> None:
        if self.gone:
            raise StoreUnavailable
        await super().tell(name)

    async def wait(self, run_ids: object, seconds: float) -> None:
        if self.gone:
            raise StoreUnavailable
        await super().wait(run_ids, min(seconds, 0.5) if self.restless else seconds)  # type: ignore[arg-type]  # as it came


class Replica:
    """A gateway's hints; several share a store."""

    def __init__(self, clock: VirtualClock, store: MemoryStore) -> None:
        self.metrics = Metrics()
        self.log = LogCapture()
        log = structlog.wrap_logger(None, processors=[self.log], wrapper_class=structlog.make_filtering_bound_logger(0))
        self.hints = Hints("https://runward.example.com", store, clock=clock, metrics=self.metrics, log=log)

    def token(self, run_id: str = RUN) -> str:
        return self.hints.url(run_id).rpartition("/")[2]

    def counted(self) -> dict[str, float]:
        results = ("genuine", "forged", "surplus", "not_told")
        return {r: n for r in results if (n := value(self.metrics, "runward_hints_total", result=r))}


async def replicas(count: int = 1) -> tuple[VirtualClock, Deaf, list[Replica]]:
    clock = VirtualClock()
    store = Deaf(clock)
    await store.open()
    made = [Replica(clock, store) for _ in range(count)]
    for each in made:
        await each.hints.open()
    return clock, store, made


async def test_a_hint_that_came_at_one_replica_wakes_another() -> None:
    """They share the secret and the store; the wait is over long before its time."""
    clock, _, (front, worker) = await replicas(2)
    waiting = asyncio.create_task(worker.hints.wait(RUN, 60))
    await clock.run_for(5)
    assert not waiting.done()
    await front.hints.receive(worker.token())
    assert await asyncio.wait_for(waiting, 5)
    assert ({"genuine": 1}, 1) == (front.counted(), value(worker.metrics, "runward_hints_used_total"))


async def test_without_a_hint_the_wait_is_as_long_as_it_was_to_be() -> None:
    clock, _, (one,) = await replicas()
    began = clock.monotonic()
    assert not await clock.run_until_done(one.hints.wait(RUN, 7))
    assert 7 == clock.monotonic() - began
    assert 0 == value(one.metrics, "runward_hints_used_total")


async def test_a_hint_about_another_run_and_a_forged_one_wake_nobody() -> None:
    """A forged one does not even reach the store."""
    clock, store, (one,) = await replicas()
    waiting = asyncio.create_task(one.hints.wait(RUN, 60))
    await settle()
    await one.hints.receive(one.token("run_other"))
    store.gone = True
    for token in ("", ".", RUN, one.token() + "x", one.token("run_x").replace("run_x", RUN), "é\udcff." * 1000):
        await one.hints.receive(token)
    await clock.run_for(30)
    assert not waiting.done()
    assert {"genuine": 1, "forged": 6} == one.counted()
    waiting.cancel()


async def test_a_hint_that_came_a_moment_before_the_wait_counts() -> None:
    """A run may be over before its start was written down."""
    clock, _, (one,) = await replicas()
    await one.hints.receive(one.token())
    assert await clock.run_until_done(one.hints.wait(RUN, 60))


async def test_a_store_that_wakes_for_no_reason_is_no_hint() -> None:
    """It may, while it can not hear others: the wait goes on."""
    clock, store, (one,) = await replicas()
    store.restless = True
    began = clock.monotonic()
    assert not await clock.run_until_done(one.hints.wait(RUN, 7))
    assert 7 == clock.monotonic() - began


async def test_whoever_waits_for_the_run_itself_is_not_woken() -> None:
    clock, store, (one,) = await replicas()
    waiting = asyncio.create_task(store.wait([RUN], 60))
    await settle()
    await one.hints.receive(one.token())
    await clock.run_for(1)
    assert not waiting.done()
    waiting.cancel()


async def test_where_the_store_fails_a_hint_is_lost_and_the_wait_is_not() -> None:
    """The run is asked about when its time has come, and the provider gets the same answer as always."""
    clock, store, (one,) = await replicas()
    store.gone = True
    began = clock.monotonic()
    assert not await clock.run_until_done(one.hints.wait(RUN, 7))
    assert 7 == clock.monotonic() - began
    await one.hints.receive(one.token())
    assert {"not_told": 1} == one.counted()


async def test_a_flood_of_genuine_hints_does_not_reach_the_store() -> None:
    clock, _, (one,) = await replicas()
    for _ in range(1500):
        await one.hints.receive(one.token())
    assert {"genuine": 1000, "surplus": 500} == one.counted()
    clock.advance(1)
    await one.hints.receive(one.token())
    assert 1001 == one.counted()["genuine"]


async def test_no_token_is_logged_and_nothing_above_debug() -> None:
    """A token in a log could be used by whoever reads it."""
    _, _, (one,) = await replicas()
    await one.hints.receive(one.token())
    await one.hints.receive("forged")
    assert ["debug", "debug"] == [entry["log_level"] for entry in one.log.entries]
    assert one.token()[-20:] not in str(one.log.entries)


async def test_the_url_is_that_of_every_life_of_the_store() -> None:
    """After a restart hints of runs that go on are still known."""
    clock, store, (one,) = await replicas()
    after = Replica(clock, store)
    assert one.token() != after.token()
    await after.hints.open()
    assert one.hints.url(RUN) == after.hints.url(RUN)
    assert one.hints.url(RUN).startswith("https://runward.example.com/hints/run_")
