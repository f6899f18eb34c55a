"""Load clients, and observation of worker processes."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

from tests.support.client import PROMPT_STUDIO_BODY, auth_headers, post_run
from tests.support.process import GatewayProcess
from tests.support.waiting import WAIT_TIMEOUT


@dataclass(slots=True)
class LoadResult:
    """Status of each request, 0 without a response."""

    statuses: Counter[int] = field(default_factory=Counter)
    stopped: bool = False

    @property
    def answered(self) -> int:
        """Number of responses."""
        return self.statuses.total() - self.statuses[0]


@asynccontextmanager
async def under_load(gateway: GatewayProcess, clients: int = 8) -> AsyncIterator[LoadResult]:
    """Run workflows with this number of clients, each time over a new connection, until `stopped`."""
    load = LoadResult()

    async def client() -> None:
        connector = aiohttp.TCPConnector(force_close=True)
        async with aiohttp.ClientSession(connector=connector) as session:
            while not load.stopped:
                try:
                    answered = await post_run(session, gateway.url, PROMPT_STUDIO_BODY, auth_headers("one"))
                    load.statuses[answered.status] += 1
                except aiohttp.ClientError:
                    load.statuses[0] += 1

    async with asyncio.TaskGroup() as group:
        for _ in range(clients):
            group.create_task(client())
        try:
            async with asyncio.timeout(WAIT_TIMEOUT):
                yield load
        finally:
            load.stopped = True


def worker_pids(gateway: GatewayProcess) -> dict[int, list[int]]:
    """Return all process ids that were ready, by worker index."""
    found: dict[int, list[int]] = {}
    for line in gateway.logs("ready"):
        index, pid = line["worker"], line["pid"]
        assert isinstance(index, int)
        assert isinstance(pid, int)
        found.setdefault(index, []).append(pid)
    return found


def is_running(pid: int) -> bool:
    """Return True if the process runs; a zombie does not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


def runs_by_worker(gateway: GatewayProcess) -> Counter[object]:
    """The responses to /run by worker index, from the access log."""
    return Counter(line["worker"] for line in gateway.logs("request") if line["route"] == "run")
