"""A real Prometheus watches a gateway whose workers die."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
from functools import partial
from pathlib import Path

import aiohttp

from tests.alerts.programs import program
from tests.alerts.prometheus import Alert, prometheus
from tests.alerts.test_firing import BOUND, OF_WORKERS, collect, readable
from tests.process import Gateway
from tests.supervisor.conftest import StartTeam
from tests.supervisor.load import until, workers


async def test_workers_that_die_are_told_of(tmp_path: Path, team: StartTeam, session: aiohttp.ClientSession) -> None:
    """R96: the alert that no gateway of one process can have; the other worker serves all the time."""
    program("prometheus")
    gateway, seen = await team(2), dict[str, Alert]()
    async with asyncio.timeout(BOUND), prometheus(tmp_path, session, gateway.ops_url) as server:
        killing = asyncio.create_task(kill_the_first(gateway))
        try:
            await collect(server, seen, {OF_WORKERS})
        finally:
            killing.cancel()
            await asyncio.wait([killing])
    assert ("warning", 1) == (seen[OF_WORKERS]["labels"]["severity"], len(workers(gateway)[1]))
    assert len(workers(gateway)[0]) >= 3
    assert [] == [text for text in seen[OF_WORKERS]["annotations"].values() if not readable(text)]


async def kill_the_first(gateway: Gateway) -> None:
    """Again and again, as soon as it was replaced."""
    for life in itertools.count(1):
        await until(partial(born, gateway, life))
        os.kill(workers(gateway)[0][-1], signal.SIGKILL)


def born(gateway: Gateway, life: int) -> bool:
    """Whether the first worker is in its life of this number."""
    return len(workers(gateway)[0]) == life
