"""The level of the log at run time, of all processes of a gateway with workers."""

from __future__ import annotations

import os
import signal

import aiohttp

from tests.supervisor.conftest import StartWorkers
from tests.supervisor.load import worker_pids
from tests.support.process import GatewayProcess, LogLine
from tests.support.waiting import wait_until


def changes(gateway: GatewayProcess) -> list[LogLine]:
    """Return the lines about changes of the level."""
    return gateway.logs("log_level_changed")


async def test_the_level_reaches_the_supervisor_and_all_workers_and_those_that_follow(
    start_workers: StartWorkers, session: aiohttp.ClientSession
) -> None:
    """A worker that replaces another one gets it too; after its time the configured level is back everywhere."""
    gateway = await start_workers(2)

    async def set_level(**body: object) -> None:
        async with session.put(gateway.ops_url + "/logs/level", json=body) as answer:
            assert 200 == answer.status

    await set_level(level="error")
    await wait_until(lambda: {None, 0, 1} == {line.get("worker") for line in changes(gateway)})
    [victim] = worker_pids(gateway)[0]
    os.kill(victim, signal.SIGKILL)
    await wait_until(lambda: len(worker_pids(gateway)[0]) == 2 or len(changes(gateway)) >= 4)
    await wait_until(lambda: [line.get("worker") for line in changes(gateway)].count(0) == 2)
    await set_level(level="error", **{"for": 0.3})
    await wait_until(lambda: [line["why"] for line in changes(gateway)].count("expired") == 3)
    assert {"debug"} == {line["new_level"] for line in changes(gateway) if line["why"] == "expired"}
