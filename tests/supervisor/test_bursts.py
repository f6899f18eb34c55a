"""Connections that arrive at once, over a supervisor and its workers as processes."""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter

import aiohttp
import pytest

from tests.supervisor.conftest import StartWorkers
from tests.supervisor.load import is_running, runs_by_worker, worker_pids
from tests.support.client import PROMPT_STUDIO_BODY, auth_headers, post_run
from tests.support.fake_upstream.faults import delayed
from tests.support.fake_upstream.provider_responses import prompt_studio_reply
from tests.support.fake_upstream.upstream import FakeUpstream
from tests.support.process import GatewayProcess
from tests.support.waiting import WAIT_TIMEOUT, wait_until

ANSWER = prompt_studio_reply({"completion": "because"})
CONNECTIONS = 50


async def burst(gateway: GatewayProcess, connections: int = CONNECTIONS) -> Counter[int]:
    """Run a workflow over each of several new connections at once. Returns the statuses, 0 without a response."""
    connector = aiohttp.TCPConnector(limit=0, force_close=True)
    async with aiohttp.ClientSession(connector=connector) as session:

        async def one() -> int:
            try:
                return (await post_run(session, gateway.url, PROMPT_STUDIO_BODY, auth_headers("one"))).status
            except aiohttp.ClientError:
                return 0

        async with asyncio.timeout(WAIT_TIMEOUT):
            return Counter(await asyncio.gather(*(one() for _ in range(connections))))


async def largest_share(gateway: GatewayProcess) -> int:
    """Send a burst; returns the number of runs of the worker that got the most."""
    before = runs_by_worker(gateway)
    assert {200: CONNECTIONS} == await burst(gateway)
    await wait_until(lambda: (runs_by_worker(gateway) - before).total() == CONNECTIONS)
    return max((runs_by_worker(gateway) - before).values())


async def test_bursts_are_divided_evenly(start_workers: StartWorkers, upstream: FakeUpstream) -> None:
    """Of 50 connections at once, none of two workers gets more than 30."""
    upstream.default = delayed(0.2, ANSWER)
    gateway = await start_workers(2)
    shares = [await largest_share(gateway) for _ in range(5)]
    assert max(shares) <= 30, shares


async def test_a_worker_killed_in_a_burst_loses_its_own_connections_only(
    start_workers: StartWorkers, upstream: FakeUpstream
) -> None:
    """The other answers all of its own; each request was sent once at most. The replacement gets its part."""
    upstream.default = delayed(0.5, ANSWER)
    gateway = await start_workers(2)
    [victim] = worker_pids(gateway)[1]
    asking = asyncio.create_task(burst(gateway))
    await wait_until(lambda: len(upstream.received) >= 10)
    os.kill(victim, signal.SIGKILL)
    answered = await asking
    assert (CONNECTIONS, True) == (answered[200] + answered[0], answered[0] <= 30), answered
    assert len(upstream.received) <= CONNECTIONS
    await wait_until(lambda: not is_running(victim) and len(worker_pids(gateway)[1]) == 2)
    assert await largest_share(gateway) <= 30


async def test_a_stopped_worker_does_not_hold_connections(start_workers: StartWorkers, upstream: FakeUpstream) -> None:
    """Connections that it would have been the next to accept go to the other."""
    upstream.default = ANSWER
    gateway = await start_workers(2)
    [stopped] = worker_pids(gateway)[0]
    os.kill(stopped, signal.SIGSTOP)
    try:
        assert {200: CONNECTIONS} == await burst(gateway)
    finally:
        os.kill(stopped, signal.SIGCONT)
    assert {1: CONNECTIONS} == runs_by_worker(gateway)


@pytest.mark.parametrize("everything", [True, False])
async def test_bursts_while_workers_drain(
    start_workers: StartWorkers, upstream: FakeUpstream, *, everything: bool
) -> None:
    """Whatever was accepted is answered, whether one worker drains or all do."""
    upstream.default = delayed(0.2, ANSWER)
    gateway = await start_workers(2, server={"drain": "1s"})
    os.kill(gateway.pid if everything else worker_pids(gateway)[0][0], signal.SIGTERM)
    await wait_until(lambda: len(gateway.logs("draining")) >= (3 if everything else 1))
    for _ in range(2):
        assert {200: 20} == await burst(gateway, 20)
    if everything:
        await wait_until(lambda: gateway.exit_code is not None)
        assert 0 == gateway.exit_code
