"""Limits that two replicas share: what holds over both, what comes back when one dies, what holds without a server."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pytest
import redis
import structlog
from structlog.testing import CapturingLogger

from gateway.access.limits import ClientLimits, Limits, Rate, SharedLimits
from gateway.access.redis_ledger import KEYS
from gateway.access.redis_limits import RedisLimits
from gateway.clock import SystemClock
from gateway.problems import Problem
from gateway.store import by_url
from tests.access.redis_worlds import HearingClock, forget
from tests.valkey import Valkey, running_server, start_server

LONG = 20.0  # seconds that nothing here may take


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Valkey]:
    """A server for many tests."""
    with running_server(tmp_path_factory.mktemp("valkey"), durable=False) as server:
        yield server


@dataclass
class Replicas:
    """Replicas with the same limits, and what one of them said."""

    url: str
    all: list[RedisLimits]
    said: CapturingLogger
    told: list[int]

    async def another(
        self,
        *,
        clients: dict[str, ClientLimits] | None = None,
        providers: dict[str, SharedLimits] | None = None,
        clock: HearingClock | None = None,
        patience: float = 0.5,
    ) -> RedisLimits:
        """One more, that is open."""
        limits = RedisLimits(
            by_url.link(self.url, None, patience=patience, connections=2),
            clock or SystemClock(),
            structlog.wrap_logger(self.said, processors=[]),
            clients=clients or {},
            workflows={},
            providers=providers or {},
            told=self.told.append,
            server_time=clock is None,
        )
        if clock is not None:
            clock.speakers.append(limits._ledger._speaker)
        self.all.append(limits)
        await limits.open()
        return limits

    def events(self) -> list[str]:
        """What was logged."""
        return [call.kwargs["event"] for call in self.said.calls]


@pytest.fixture
async def replicas(server: Valkey) -> AsyncIterator[Replicas]:
    """Nobody yet, on an empty server."""
    forget(server.url)
    replicas = Replicas(server.url, [], CapturingLogger(), [])
    yield replicas
    for limits in replicas.all:
        await limits.close()


def never() -> float:
    """A deadline that is far away."""
    return SystemClock.monotonic() + 1000


async def test_it_keeps_the_contract(replicas: Replicas) -> None:
    """What mypy checks here is that `RedisLimits` is a `Limits`."""
    limits: Limits = await replicas.another()
    assert callable(limits.admit)


async def test_a_clients_rate_day_and_slots_hold_over_all_replicas(replicas: Replicas) -> None:
    """R85, R86: what is left goes down over both, a refusal costs nothing, waiting as long as told succeeds."""
    clock = HearingClock()
    clients = {"a": ClientLimits(Rate(1), 4, 3, 100)}
    one, two = [await replicas.another(clients=clients, clock=clock) for _ in range(2)]
    holds = [await limits.admit("a", "w", "p", deadline=1e9) for limits in (one, two, one)]
    assert ['"rate";r=3', '"rate";r=2', '"rate";r=1'] == [hold.headers[1][1][:10] for hold in holds]
    for limits in (one, two):
        with pytest.raises(Problem) as refused:
            await limits.admit("a", "w", "p", deadline=1e9)
        assert ("rate_limited", 1.0) == (refused.value.code, refused.value.retry_after)
    holds[1].release()
    await clock.settle()
    await one.admit("a", "w", "p", deadline=1e9)
    with pytest.raises(Problem) as refused:
        await two.admit("a", "w", "p", deadline=1e9)
    assert '"rate";r=0;t=1, "concurrency";r=0;t=1' == dict(refused.value.headers)["RateLimit"]
    holds[0].release()
    await clock.settle()
    clock.advance(refused.value.retry_after or 0)
    last = await two.admit("a", "w", "p", deadline=1e9)
    assert '"rate";r=0;t=1, "daily";r=95;t=43199' == last.headers[1][1]


async def test_a_providers_rate_holds_over_all_replicas_starts_and_polls(replicas: Replicas) -> None:
    """R89: on the server's time, both flooding; no second holds more than the rate and its burst."""
    providers = {"p": SharedLimits(Rate(50), 5, max_wait=0.4)}
    both = [await replicas.another(providers=providers) for _ in range(2)]
    calls: list[float] = []
    codes: set[str] = set()

    async def ask(limits: RedisLimits, number: int) -> None:
        try:
            async with await limits.admit(f"c{number % 3}", "w", "p", deadline=never()) as admission:
                calls.append(SystemClock.monotonic())
                await admission.poll(deadline=never())
                calls.append(SystemClock.monotonic())
        except Problem as problem:
            codes.add(problem.code)

    end = SystemClock.monotonic() + 2.5
    work: list[asyncio.Task[None]] = []
    while SystemClock.monotonic() < end:
        work += [asyncio.create_task(ask(limits, len(work))) for limits in both for _ in range(3)]
        await asyncio.sleep(0.05)
    async with asyncio.timeout(LONG):
        await asyncio.gather(*work)
    calls.sort()
    # A call is seen a little later than the server counted it: the window is shorter by what that may be.
    assert 50 + 5 >= max(sum(first <= at < first + 0.9 for at in calls) for first in calls)
    assert 100 < len(calls)
    assert {"overloaded"} == codes
    assert all(one <= other for one, other in pairwise(calls))


async def test_slots_hold_over_all_replicas_and_replicas_take_turns(replicas: Replicas) -> None:
    """Never more than the cap at once; neither is starved by the other, whose runs leave and come on the spot."""
    providers = {"p": SharedLimits(concurrency=2, max_wait=60)}
    both = [await replicas.another(providers=providers) for _ in range(2)]
    running, most, done = 0, 0, [0, 0]

    async def loop(which: int) -> None:
        nonlocal running, most
        while sum(done) < 40:
            async with await both[which].admit("a", "w", "p", deadline=never()):
                running += 1
                most = max(most, running)
                await asyncio.sleep(0.1)
                running -= 1
                done[which] += 1

    async with asyncio.timeout(LONG):
        await asyncio.gather(*(loop(which) for which in (0, 0, 0, 0, 1, 1)))
    assert 2 == most
    assert min(done) >= 12, done


async def test_a_slot_that_is_freed_elsewhere_is_found(replicas: Replicas) -> None:
    clock = HearingClock()
    providers = {"p": SharedLimits(concurrency=1, max_wait=5)}
    one, two = [await replicas.another(providers=providers, clock=clock) for _ in range(2)]
    hold = await one.admit("a", "w", "p", deadline=1e9)
    waiting = asyncio.create_task(two.admit("b", "w", "p", deadline=1e9))
    await clock.run_for(3)
    assert (False, 1) == (waiting.done(), two.waiting("p"))
    hold.release()
    await clock.run_for(0.1)
    assert waiting.done()
    assert 1 == two.running("p")


async def test_a_run_that_goes_on_keeps_its_slot_and_one_whose_replica_is_gone_does_not(replicas: Replicas) -> None:
    """Leases: renewed by whoever lives, out after half a minute for whoever does not."""
    clock, dead = HearingClock(), HearingClock(seed=2)
    providers = {"p": SharedLimits(concurrency=2, max_wait=0)}
    one = await replicas.another(providers=providers, clock=clock)
    two = await replicas.another(providers=providers, clock=dead)
    await one.admit("a", "w", "p", deadline=1e9)
    await two.admit("a", "w", "p", deadline=1e9)
    await clock.run_for(25)  # the other's time stands still: it says nothing any more
    with pytest.raises(Problem):
        await one.admit("a", "w", "p", deadline=1e9)
    await clock.run_for(10)
    hold = await one.admit("a", "w", "p", deadline=1e9)
    with pytest.raises(Problem):
        await one.admit("a", "w", "p", deadline=1e9)
    hold.release()
    await clock.run_for(300)
    assert 1 == one._ledger.replicas
    await one.admit("a", "w", "p", deadline=1e9)
    with pytest.raises(Problem):
        await one.admit("a", "w", "p", deadline=1e9)


_HOLDER = """
import asyncio, structlog, sys
from gateway.access.limits import SharedLimits
from gateway.access.redis_limits import RedisLimits
from gateway.store import by_url
from gateway.clock import SystemClock

async def main():
    providers = {"p": SharedLimits(concurrency=1)}
    log = structlog.wrap_logger(structlog.testing.CapturingLogger())
    link = by_url.link(sys.argv[1], None, patience=0.5, connections=2)
    limits = RedisLimits(link, SystemClock(), log, clients={}, workflows={}, providers=providers)
    await limits.open()
    await limits.admit("a", "w", "p", deadline=1e9)
    print("held", flush=True)
    await asyncio.sleep(60)

import structlog.testing
asyncio.run(main())
"""


async def test_the_slots_of_a_killed_replica_come_back(replicas: Replicas) -> None:
    """A real process, killed; then the server's lease is put forward, as if half a minute had passed."""
    command = (sys.executable, "-c", _HOLDER, replicas.url)
    holder = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)
    try:
        assert holder.stdout is not None
        assert b"held\n" == await asyncio.wait_for(holder.stdout.readline(), LONG)
        limits = await replicas.another(providers={"p": SharedLimits(concurrency=1, max_wait=0)})
        assert 2 == limits._ledger.replicas
        with pytest.raises(Problem):
            await limits.admit("a", "w", "p", deadline=never())
    finally:
        holder.kill()
        await holder.wait()
    with redis.Redis.from_url(replicas.url) as client:
        slots = KEYS + "provider:p:slots"
        for slot, _ in client.zrange(slots, 0, -1, withscores=True):
            client.zincrby(slots, -31, slot)
    await limits.admit("a", "w", "p", deadline=never())


@pytest.mark.parametrize("how", ["stopped", "killed"])
async def test_without_a_server_each_replica_takes_its_share_and_nothing_hangs(tmp_path: Path, how: str) -> None:
    """Logged once, told to the metric; waiters go on in line; shared again when the server is back."""
    server = start_server(tmp_path, durable=False)
    replicas = Replicas(server.url, [], CapturingLogger(), [])
    try:
        clients, providers = {"a": ClientLimits(Rate(0.001), 5)}, {"p": SharedLimits(concurrency=4, max_wait=30)}
        one, two = [await replicas.another(clients=clients, providers=providers) for _ in range(2)]
        await one._ledger._tend()
        assert (2, [1, 1]) == (one._ledger.replicas, replicas.told)
        holds = [await one.admit("b", "w", "p", deadline=never()) for _ in range(3)]
        await two.admit("b", "w", "p", deadline=never())
        waiting = asyncio.create_task(one.admit("c", "w", "p", deadline=never()))
        await asyncio.sleep(0.02)
        replicas.told.clear()
        replicas.said.calls.clear()
        if how == "stopped":
            os.kill(server.process.pid, signal.SIGSTOP)
        else:
            server.kill()
        async with asyncio.timeout(LONG):
            for _ in range(2):  # half of the burst of 5, rounded down
                (await one.admit("a", "x", "y", deadline=never())).release()
            with pytest.raises(Problem) as refused:
                await one.admit("a", "x", "y", deadline=never())
            assert "q=2" in dict(refused.value.headers)["RateLimit-Policy"]
            assert ("limits_local", [0]) == (replicas.events()[0], replicas.told[:1])
            holds[0].release()
            await asyncio.sleep(0.02)
            assert not waiting.done()  # two of its own run, which is its share of four
            holds[1].release()
            (await waiting).release()
        if how == "stopped":
            os.kill(server.process.pid, signal.SIGCONT)
        else:
            server = start_server(tmp_path, durable=False, port=server.port)
        async with asyncio.timeout(LONG):
            while replicas.events().count("limits_shared") < replicas.events().count("limits_local"):
                await asyncio.sleep(0.05)
        assert 1 == replicas.told[-1]
        assert 1 == replicas.events()[:2].count("limits_local") or how == "killed"
        holds[2].release()
    finally:
        for limits in replicas.all:
            await limits.close()
        server.kill()


async def test_a_server_that_forgot_everything_hears_of_the_slots_again(replicas: Replicas) -> None:
    clock = HearingClock()
    limits = await replicas.another(providers={"p": SharedLimits(concurrency=1, max_wait=0)}, clock=clock)
    await limits.admit("a", "w", "p", deadline=1e9)
    forget(replicas.url)
    await clock.run_for(11)
    with pytest.raises(Problem):
        await limits.admit("a", "w", "p", deadline=1e9)


@pytest.mark.parametrize("step", [-3600.0, 3600.0])
async def test_a_step_of_the_servers_clock_empties_or_fills_a_bucket_at_worst(replicas: Replicas, step: float) -> None:
    """R87 for a server, which has a wall clock only: nobody is locked out, one burst more at most is let through."""
    clock = HearingClock()
    clients = {"a": ClientLimits(Rate(1), 3, 2, 10)}
    limits = await replicas.another(clients=clients, clock=clock)
    (await limits.admit("a", "w", "p", deadline=1e9)).release()
    held = await limits.admit("a", "w", "p", deadline=1e9)
    clock.advance(step)
    await limits._ledger._tend()
    passed, waits = 0, [0.0]
    for _ in range(6):
        try:
            hold = await limits.admit("a", "w", "p", deadline=1e9)
        except Problem as problem:
            waits.append(problem.retry_after or 0)
            clock.advance(waits[-1])
            continue
        hold.release()
        passed += 1
    assert 3 <= passed <= 5
    assert 1.0 + 1e-5 >= max(waits)
    held.release()


async def test_a_request_that_is_cancelled_while_it_asks_takes_nothing(replicas: Replicas) -> None:
    """R33, R86: the server has counted it, nobody is there any more: all goes back."""
    clock = HearingClock()
    clients, providers = {"a": ClientLimits(Rate(0.001), 1, 1, 1)}, {"p": SharedLimits(Rate(0.001), 1, 1, 0.0)}
    limits = await replicas.another(clients=clients, providers=providers, clock=clock)
    for turns in range(1, 8):
        asking = asyncio.create_task(limits.admit("a", "w", "p", deadline=1e9))
        for _ in range(turns):
            await asyncio.sleep(0)
        asking.cancel()
        await clock.settle()
        if not asking.cancelled():
            asking.result().refund()
        await clock.settle()
    await limits.admit("a", "w", "p", deadline=1e9)


async def test_where_nothing_is_limited_the_server_is_not_asked(replicas: Replicas) -> None:
    limits = await replicas.another(clients={"a": ClientLimits()}, providers={"p": SharedLimits()})
    with redis.Redis.from_url(replicas.url) as client:
        before = client.info("commandstats")
        async with await limits.admit("a", "w", "p", deadline=never()) as admission:
            await admission.poll(deadline=never())
            await admission.start_again(deadline=never())
        after = client.info("commandstats")
    assert before["cmdstat_evalsha"]["calls"] == after["cmdstat_evalsha"]["calls"]


async def test_limits_change_while_the_server_counts(replicas: Replicas) -> None:
    clock = HearingClock()
    limits = await replicas.another(providers={"p": SharedLimits(concurrency=1, max_wait=30)}, clock=clock)
    first = await limits.admit("a", "w", "p", deadline=1e9)
    waiting = asyncio.create_task(limits.admit("b", "w", "p", deadline=1e9))
    await clock.settle()
    two = {"p": SharedLimits(concurrency=2, max_wait=30)}
    limits.reconfigure(clients={"a": ClientLimits(Rate(1), 1)}, workflows={}, providers=two)
    await clock.run_for(0.1)
    assert (True, 2) == (waiting.done(), limits.running("p"))
    first.release()
    await clock.settle()
    assert '"rate";q=1;w=1' == dict((await limits.admit("a", "w", "p", deadline=1e9)).headers)["RateLimit-Policy"]
    with redis.Redis.from_url(replicas.url) as client:
        assert 2 == client.zcard(KEYS + "provider:p:slots")
        limits.reconfigure(clients={}, workflows={}, providers={})
        waiting.result().release()
        await clock.settle()
        assert 1 == client.zcard(KEYS + "provider:p:slots")  # freed, though nothing limits it any more
    assert () == (await limits.admit("a", "w", "p", deadline=1e9)).headers


async def test_a_run_that_was_started_before_is_neither_refused_nor_charged(replicas: Replicas) -> None:
    """R48: a replica took it up; its client and provider have nothing left, and it is asked about all the same."""
    providers = {"p": SharedLimits(Rate(100), 2, 1)}
    one, two = [await replicas.another(clients={"a": ClientLimits(daily=1)}, providers=providers) for _ in range(2)]
    async with await one.admit("a", "w", "p", deadline=never()):
        with pytest.raises(Problem):
            await two.admit("a", "w", "p", deadline=never())
        followed = two.follow("a", "w", "p")
        for _ in range(5):
            async with asyncio.timeout(LONG):
                await followed.poll(deadline=never())
        followed.release()
        assert 1 == one.running("p")
    assert () == followed.headers
