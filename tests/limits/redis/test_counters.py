"""Limits that two replicas share: totals over both, leases of a dead replica, and local limits without a server."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import pytest
import redis
import structlog
from structlog.testing import CapturingLogger

from gateway.clock import SystemClock
from gateway.errors import Overloaded, RateLimited, RunError
from gateway.limits.admission import Admission
from gateway.limits.config import ClientLimitsConfig, LimitsConfig, RateLimit, ResourceLimitsConfig
from gateway.limits.limiter import Limiter
from gateway.limits.redis.counter_bindings import KEY_PREFIX
from gateway.limits.redis.counters import RedisCounters
from gateway.store import factory
from tests.limits.redis.harness import RedisVirtualClock, flush_server
from tests.support.valkey import ValkeyServer, running_server, start_server

TIMEOUT = 20.0  # seconds; only a hanging test takes so long


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyServer]:
    """A server for the tests of this module."""
    with running_server(tmp_path_factory.mktemp("valkey"), durable=False) as server:
        yield server


@dataclass
class ReplicaHarness:
    """Replicas with the same limits, and their log."""

    url: str
    limiters: list[Limiter]
    log: CapturingLogger
    shared_changes: list[int]
    counters: list[RedisCounters] = field(default_factory=list)

    async def add_replica(
        self,
        *,
        clients: dict[str, ClientLimitsConfig] | None = None,
        providers: dict[str, ResourceLimitsConfig] | None = None,
        clock: RedisVirtualClock | None = None,
        command_timeout: float = 0.5,
    ) -> Limiter:
        """Open one more replica."""
        counters = RedisCounters(
            factory.create_redis_connection(self.url, timeout=command_timeout, connections=2),
            clock or SystemClock(),
            structlog.wrap_logger(self.log, processors=[]),
            on_shared_change=self.shared_changes.append,
            server_time=clock is None,
        )
        self.counters.append(counters)
        if clock is not None:
            clock.counters.append(counters)
        config = LimitsConfig(clients or {}, {}, providers or {})
        limiter = Limiter(clock or SystemClock(), config, counters=counters)
        self.limiters.append(limiter)
        await limiter.open()
        return limiter

    def events(self) -> list[str]:
        """Return the events of the log."""
        return [call.kwargs["event"] for call in self.log.calls]


@pytest.fixture
async def replicas(server: ValkeyServer) -> AsyncIterator[ReplicaHarness]:
    """No replica yet, on an empty server."""
    flush_server(server.url)
    replicas = ReplicaHarness(server.url, [], CapturingLogger(), [])
    yield replicas
    for limiter in replicas.limiters:
        await limiter.close()


def far_deadline() -> float:
    """Return a deadline far in the future."""
    return SystemClock.monotonic() + 1000


async def test_a_clients_rate_day_and_slots_hold_over_all_replicas(replicas: ReplicaHarness) -> None:
    """R85, R86: the remaining quota is common, a refusal costs nothing, and the announced wait is sufficient."""
    clock = RedisVirtualClock()
    clients = {"a": ClientLimitsConfig(RateLimit(1), 4, 3, 100)}
    one, two = [await replicas.add_replica(clients=clients, clock=clock) for _ in range(2)]
    admissions = [await limits.admit("a", "w", "p", deadline=1e9) for limits in (one, two, one)]
    assert ['"rate";r=3', '"rate";r=2', '"rate";r=1'] == [admission.headers[1][1][:10] for admission in admissions]
    for limiter in (one, two):
        with pytest.raises(RunError) as refused:
            await limiter.admit("a", "w", "p", deadline=1e9)
        assert (RateLimited, 1.0) == (type(refused.value), refused.value.retry_after)
    admissions[1].release()
    await clock.run_ready_tasks()
    await one.admit("a", "w", "p", deadline=1e9)
    with pytest.raises(RunError) as refused:
        await two.admit("a", "w", "p", deadline=1e9)
    assert '"rate";r=0;t=1, "concurrency";r=0;t=1' == dict(refused.value.headers)["RateLimit"]
    admissions[0].release()
    await clock.run_ready_tasks()
    clock.advance(refused.value.retry_after or 0)
    last = await two.admit("a", "w", "p", deadline=1e9)
    assert '"rate";r=0;t=1, "daily";r=95;t=43199' == last.headers[1][1]


async def test_a_providers_rate_holds_over_all_replicas_starts_and_polls(replicas: ReplicaHarness) -> None:
    """R89: on the server's time, with both replicas flooding; never more calls than rate and burst allow."""
    providers = {"p": ResourceLimitsConfig(RateLimit(50), 5, max_wait=0.4)}
    both = [await replicas.add_replica(providers=providers) for _ in range(2)]
    calls: list[float] = []
    errors: set[type[RunError]] = set()

    async def ask(limiter: Limiter, number: int) -> None:
        try:
            async with await limiter.admit(f"c{number % 3}", "w", "p", deadline=far_deadline()) as admission:
                calls.append(SystemClock.monotonic())
                await admission.admit_poll(deadline=far_deadline())
                calls.append(SystemClock.monotonic())
        except RunError as problem:
            errors.add(type(problem))

    began = SystemClock.monotonic()
    end = began + 2.5
    work: list[asyncio.Task[None]] = []
    while SystemClock.monotonic() < end:
        work += [asyncio.create_task(ask(limits, len(work))) for limits in both for _ in range(3)]
        await asyncio.sleep(0.05)
    async with asyncio.timeout(TIMEOUT):
        await asyncio.gather(*work)
    calls.sort()
    assert [] == [n for n, at in enumerate(calls, 1) if n > 5 + 50 * (at - began) + 1]
    assert 100 < len(calls)
    assert {Overloaded} == errors
    assert all(one <= other for one, other in pairwise(calls))


async def test_slots_hold_over_all_replicas_and_replicas_take_turns(replicas: ReplicaHarness) -> None:
    """The concurrency limit holds, and neither replica starves the other, whose runs end and start at once."""
    providers = {"p": ResourceLimitsConfig(concurrency=2, max_wait=60)}
    both = [await replicas.add_replica(providers=providers) for _ in range(2)]
    running, most, done = 0, 0, [0, 0]

    async def loop(which: int) -> None:
        nonlocal running, most
        while sum(done) < 40:
            async with await both[which].admit("a", "w", "p", deadline=far_deadline()):
                running += 1
                most = max(most, running)
                await asyncio.sleep(0.1)
                running -= 1
                done[which] += 1

    async with asyncio.timeout(TIMEOUT):
        await asyncio.gather(*(loop(which) for which in (0, 0, 0, 0, 1, 1)))
    assert 2 == most
    assert min(done) >= 12, done


async def test_a_slot_freed_by_another_replica_is_found(replicas: ReplicaHarness) -> None:
    clock = RedisVirtualClock()
    providers = {"p": ResourceLimitsConfig(concurrency=1, max_wait=5)}
    one, two = [await replicas.add_replica(providers=providers, clock=clock) for _ in range(2)]
    admission = await one.admit("a", "w", "p", deadline=1e9)
    waiting = asyncio.create_task(two.admit("b", "w", "p", deadline=1e9))
    await clock.run_for(3)
    assert (False, 1) == (waiting.done(), two.waiting("p"))
    admission.release()
    await clock.run_for(0.1)
    assert waiting.done()
    assert 1 == two.running("p")


async def test_a_live_replica_keeps_its_slots_and_a_dead_one_loses_them(
    replicas: ReplicaHarness,
) -> None:
    """Leases are renewed by the heartbeat of a live replica, and end after 30 s without one."""
    clock, dead = RedisVirtualClock(), RedisVirtualClock(seed=2)
    providers = {"p": ResourceLimitsConfig(concurrency=2, max_wait=0)}
    one = await replicas.add_replica(providers=providers, clock=clock)
    two = await replicas.add_replica(providers=providers, clock=dead)
    await one.admit("a", "w", "p", deadline=1e9)
    await two.admit("a", "w", "p", deadline=1e9)
    await clock.run_for(25)  # the clock of the other replica stands still, so it sends no heartbeat
    with pytest.raises(RunError):
        await one.admit("a", "w", "p", deadline=1e9)
    await clock.run_for(10)
    admission = await one.admit("a", "w", "p", deadline=1e9)
    with pytest.raises(RunError):
        await one.admit("a", "w", "p", deadline=1e9)
    admission.release()
    await clock.run_for(300)
    assert 1 == one.snapshot().replicas
    await one.admit("a", "w", "p", deadline=1e9)
    with pytest.raises(RunError):
        await one.admit("a", "w", "p", deadline=1e9)


_HOLDER_PROGRAM = """
import asyncio, structlog, sys
from gateway.limits.config import LimitsConfig, ResourceLimitsConfig
from gateway.limits.limiter import Limiter
from gateway.limits.redis.counters import RedisCounters
from gateway.store import factory
from gateway.clock import SystemClock

async def main():
    providers = {"p": ResourceLimitsConfig(concurrency=1)}
    log = structlog.wrap_logger(structlog.testing.CapturingLogger())
    link = factory.create_redis_connection(sys.argv[1], timeout=0.5, connections=2)
    limits = Limiter(
        SystemClock(), LimitsConfig(providers=providers), counters=RedisCounters(link, SystemClock(), log)
    )
    await limits.open()
    await limits.admit("a", "w", "p", deadline=1e9)
    print("held", flush=True)
    await asyncio.sleep(60)

import structlog.testing
asyncio.run(main())
"""


@pytest.mark.process
async def test_the_slots_of_a_killed_replica_come_back(replicas: ReplicaHarness) -> None:
    """A real process is killed; then the leases are moved forward by more than 30 s."""
    command = (sys.executable, "-c", _HOLDER_PROGRAM, replicas.url)
    holder = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)
    try:
        assert holder.stdout is not None
        assert b"held\n" == await asyncio.wait_for(holder.stdout.readline(), TIMEOUT)
        limiter = await replicas.add_replica(providers={"p": ResourceLimitsConfig(concurrency=1, max_wait=0)})
        assert 2 == limiter.snapshot().replicas
        with pytest.raises(RunError):
            await limiter.admit("a", "w", "p", deadline=far_deadline())
    finally:
        holder.kill()
        await holder.wait()
    with redis.Redis.from_url(replicas.url) as client:
        slots = KEY_PREFIX + "provider:p:slots"
        for slot_id, _ in client.zrange(slots, 0, -1, withscores=True):
            client.zincrby(slots, -31, slot_id)
    await limiter.admit("a", "w", "p", deadline=far_deadline())


@pytest.mark.process
@pytest.mark.parametrize("how", ["stopped", "killed"])
async def test_without_a_server_each_replica_takes_its_share_and_nothing_hangs(tmp_path: Path, how: str) -> None:
    """The change is logged and measured; waiting requests stay queued; the server counts again once it is back."""
    server = start_server(tmp_path, durable=False)
    replicas = ReplicaHarness(server.url, [], CapturingLogger(), [])
    try:
        clients, providers = (
            {"a": ClientLimitsConfig(RateLimit(0.001), 5)},
            {"p": ResourceLimitsConfig(concurrency=4, max_wait=30)},
        )
        one, two = [await replicas.add_replica(clients=clients, providers=providers) for _ in range(2)]
        await replicas.counters[0].renew_leases()
        assert (2, [1, 1]) == (one.snapshot().replicas, replicas.shared_changes)
        admissions = [await one.admit("b", "w", "p", deadline=far_deadline()) for _ in range(3)]
        await two.admit("b", "w", "p", deadline=far_deadline())
        waiting = asyncio.create_task(one.admit("c", "w", "p", deadline=far_deadline()))
        await asyncio.sleep(0.02)
        replicas.shared_changes.clear()
        replicas.log.calls.clear()
        if how == "stopped":
            os.kill(server.process.pid, signal.SIGSTOP)
        else:
            server.kill()
        async with asyncio.timeout(TIMEOUT):
            for _ in range(2):  # half of the burst of 5, rounded down
                (await one.admit("a", "x", "y", deadline=far_deadline())).release()
            with pytest.raises(RunError) as refused:
                await one.admit("a", "x", "y", deadline=far_deadline())
            assert "q=2" in dict(refused.value.headers)["RateLimit-Policy"]
            assert ("limits_local", [0]) == (replicas.events()[0], replicas.shared_changes[:1])
            admissions[0].release()
            await asyncio.sleep(0.02)
            assert not waiting.done()  # two of its own runs: its share of four
            admissions[1].release()
            (await waiting).release()
        if how == "stopped":
            os.kill(server.process.pid, signal.SIGCONT)
        else:
            server = start_server(tmp_path, durable=False, port=server.port)
        async with asyncio.timeout(TIMEOUT):
            while replicas.events().count("limits_shared") < replicas.events().count("limits_local"):
                await asyncio.sleep(0.05)
        assert 1 == replicas.shared_changes[-1]
        assert 1 == replicas.events()[:2].count("limits_local") or how == "killed"
        admissions[2].release()
    finally:
        for limiter in replicas.limiters:
            await limiter.close()
        server.kill()


@pytest.mark.parametrize("how", ["stopped", "killed"])
async def test_an_outage_allows_no_further_burst(tmp_path: Path, how: str) -> None:
    """R85: what a replica takes while the server is lost is charged afterwards, and so is what the server lost."""
    server = start_server(tmp_path, durable=False)
    replicas = ReplicaHarness(server.url, [], CapturingLogger(), [])
    limits = ClientLimitsConfig(RateLimit(0.001), 6), ClientLimitsConfig(daily=6)
    try:
        config = dict(zip(("rate", "day"), limits, strict=True))
        one, two = [await replicas.add_replica(clients=config) for _ in range(2)]
        await replicas.counters[0].renew_leases()
        assert [2, 2] == [await _admitted(one, client, 2) for client in config]
        if how == "killed":
            server.kill()
        else:
            os.kill(server.process.pid, signal.SIGSTOP)
        for counters in replicas.counters:
            await counters.renew_leases()
        assert [2, 1] == [await _admitted(one, client, 9) for client in config]  # its share of what is left
        if how == "killed":
            server = start_server(tmp_path, durable=False, port=server.port)
        else:
            os.kill(server.process.pid, signal.SIGCONT)
        async with asyncio.timeout(TIMEOUT):
            for counters in replicas.counters:
                while not counters.shared:
                    await counters.renew_leases()
        assert [2, 3] == [await _admitted(two, client, 9) for client in config]
    finally:
        for limiter in replicas.limiters:
            await limiter.close()
        server.kill()


async def _admitted(limiter: Limiter, client: str, requests: int) -> int:
    """Return the number of admitted requests."""
    results = [
        await asyncio.gather(limiter.admit(client, "w", "p", deadline=far_deadline()), return_exceptions=True)
        for _ in range(requests)
    ]
    return sum(isinstance(admission, Admission) for [admission] in results)


async def test_the_heartbeat_restores_the_slots_on_a_server_that_lost_its_data(replicas: ReplicaHarness) -> None:
    clock = RedisVirtualClock()
    limiter = await replicas.add_replica(providers={"p": ResourceLimitsConfig(concurrency=1, max_wait=0)}, clock=clock)
    await limiter.admit("a", "w", "p", deadline=1e9)
    flush_server(replicas.url)
    await clock.run_for(11)
    with pytest.raises(RunError):
        await limiter.admit("a", "w", "p", deadline=1e9)


@pytest.mark.parametrize("step", [-3600.0, 3600.0])
async def test_a_step_of_the_servers_clock_costs_or_adds_one_burst_at_most(
    replicas: ReplicaHarness, step: float
) -> None:
    """R87 for a server, which has a wall clock only: no client is locked out, and at most one more burst is allowed."""
    clock = RedisVirtualClock()
    clients = {"a": ClientLimitsConfig(RateLimit(1), 3, 2, 10)}
    limiter = await replicas.add_replica(clients=clients, clock=clock)
    (await limiter.admit("a", "w", "p", deadline=1e9)).release()
    held = await limiter.admit("a", "w", "p", deadline=1e9)
    clock.advance(step)
    await replicas.counters[0].renew_leases()
    passed, waits = 0, [0.0]
    for _ in range(6):
        try:
            admission = await limiter.admit("a", "w", "p", deadline=1e9)
        except RunError as problem:
            waits.append(problem.retry_after or 0)
            clock.advance(waits[-1])
            continue
        admission.release()
        passed += 1
    assert 3 <= passed <= 5
    assert 1.0 + 1e-5 >= max(waits)
    held.release()


async def test_a_request_cancelled_during_the_round_trip_takes_nothing(replicas: ReplicaHarness) -> None:
    """R33, R86: the server has counted the request of a cancelled task; everything is given back."""
    clock = RedisVirtualClock()
    clients, providers = (
        {"a": ClientLimitsConfig(RateLimit(0.001), 1, 1, 1)},
        {"p": ResourceLimitsConfig(RateLimit(0.001), 1, 1, 0.0)},
    )
    limiter = await replicas.add_replica(clients=clients, providers=providers, clock=clock)
    for steps in range(1, 8):
        task = asyncio.create_task(limiter.admit("a", "w", "p", deadline=1e9))
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        await clock.run_ready_tasks()
        if not task.cancelled():
            task.result().refund()
        await clock.run_ready_tasks()
    await limiter.admit("a", "w", "p", deadline=1e9)


async def test_requests_without_limits_make_no_round_trip(replicas: ReplicaHarness) -> None:
    limiter = await replicas.add_replica(clients={"a": ClientLimitsConfig()}, providers={"p": ResourceLimitsConfig()})
    with redis.Redis.from_url(replicas.url) as client:
        before = _script_calls(client)
        async with await limiter.admit("a", "w", "p", deadline=far_deadline()) as admission:
            await admission.admit_poll(deadline=far_deadline())
            await admission.admit_retry(deadline=far_deadline())
        assert before == _script_calls(client)


async def test_runs_without_a_concurrency_limit_are_counted_by_their_replica(replicas: ReplicaHarness) -> None:
    limiter = await replicas.add_replica(
        clients={"a": ClientLimitsConfig(RateLimit(100), 9)}, providers={"p": ResourceLimitsConfig(RateLimit(100), 9)}
    )
    admissions = [await limiter.admit("a", "w", "p", deadline=far_deadline()) for _ in range(2)]
    state = limiter.snapshot()
    assert {"a": 2} == state.clients
    assert {"p": 2} == state.providers
    for admission in admissions:
        admission.release()
    state = limiter.snapshot()
    assert {"a": 0} == state.clients
    assert {"p": 0} == state.providers
    assert state.shared


def _script_calls(client: redis.Redis) -> int:
    """Return how many scripts the server has executed."""
    stats = client.info("commandstats")
    return sum(stats.get(f"cmdstat_{name}", {"calls": 0})["calls"] for name in ("eval", "evalsha"))


async def test_limits_change_while_the_server_counts(replicas: ReplicaHarness) -> None:
    clock = RedisVirtualClock()
    limiter = await replicas.add_replica(providers={"p": ResourceLimitsConfig(concurrency=1, max_wait=30)}, clock=clock)
    first = await limiter.admit("a", "w", "p", deadline=1e9)
    waiting = asyncio.create_task(limiter.admit("b", "w", "p", deadline=1e9))
    await clock.run_ready_tasks()
    two = {"p": ResourceLimitsConfig(concurrency=2, max_wait=30)}
    limiter.reconfigure(LimitsConfig({"a": ClientLimitsConfig(RateLimit(1), 1)}, {}, two))
    await clock.run_for(0.1)
    assert (True, 2) == (waiting.done(), limiter.running("p"))
    first.release()
    await clock.run_ready_tasks()
    assert '"rate";q=1;w=1' == dict((await limiter.admit("a", "w", "p", deadline=1e9)).headers)["RateLimit-Policy"]
    with redis.Redis.from_url(replicas.url) as client:
        assert 2 == client.zcard(KEY_PREFIX + "provider:p:slots")
        limiter.reconfigure(LimitsConfig())
        waiting.result().release()
        await clock.run_ready_tasks()
        assert 1 == client.zcard(KEY_PREFIX + "provider:p:slots")  # freed, although the limit was removed
    assert () == (await limiter.admit("a", "w", "p", deadline=1e9)).headers


async def test_a_run_that_was_started_before_is_neither_refused_nor_charged(replicas: ReplicaHarness) -> None:
    """R48: a replica adopted it; its client and provider have no quota left, and it is polled nevertheless."""
    providers = {"p": ResourceLimitsConfig(RateLimit(100), 2, 1)}
    one, two = [
        await replicas.add_replica(clients={"a": ClientLimitsConfig(daily=1)}, providers=providers) for _ in range(2)
    ]
    async with await one.admit("a", "w", "p", deadline=far_deadline()):
        with pytest.raises(RunError):
            await two.admit("a", "w", "p", deadline=far_deadline())
        followed = two.admit_adopted("a", "w", "p")
        for _ in range(5):
            async with asyncio.timeout(TIMEOUT):
                await followed.admit_poll(deadline=far_deadline())
        followed.release()
        assert 1 == one.running("p")
    assert () == followed.headers
