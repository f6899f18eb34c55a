"""Alert on crashing workers, with a real Prometheus."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
from functools import partial
from pathlib import Path

import aiohttp

from tests.alerts.prometheus_server import Alert, running_prometheus
from tests.alerts.prometheus_tools import find_program
from tests.alerts.test_firing import TEST_TIMEOUT, WORKER_ALERT, collect_alerts, is_filled_in
from tests.supervisor.conftest import StartWorkers
from tests.supervisor.load import worker_pids
from tests.support.process import GatewayProcess
from tests.support.waiting import wait_until


async def test_dying_workers_raise_the_alert(
    tmp_path: Path, start_workers: StartWorkers, session: aiohttp.ClientSession
) -> None:
    """R96: alert of the worker pool; the other worker serves throughout."""
    find_program("prometheus")
    gateway, seen = await start_workers(2), dict[str, Alert]()
    async with asyncio.timeout(TEST_TIMEOUT), running_prometheus(tmp_path, session, gateway.ops_url) as server:
        killing = asyncio.create_task(kill_first_worker(gateway))
        try:
            await collect_alerts(server, seen, {WORKER_ALERT})
        finally:
            killing.cancel()
            await asyncio.wait([killing])
    assert ("warning", 1) == (seen[WORKER_ALERT]["labels"]["severity"], len(worker_pids(gateway)[1]))
    assert len(worker_pids(gateway)[0]) >= 3
    assert [] == [text for text in seen[WORKER_ALERT]["annotations"].values() if not is_filled_in(text)]


async def kill_first_worker(gateway: GatewayProcess) -> None:
    """Kill the first worker whenever it has been replaced."""
    for start_number in itertools.count(1):
        await wait_until(partial(has_started, gateway, start_number))
        os.kill(worker_pids(gateway)[0][-1], signal.SIGKILL)


def has_started(gateway: GatewayProcess, start_number: int) -> bool:
    """Return True if the first worker has been started this number of times."""
    return len(worker_pids(gateway)[0]) == start_number
