"""Two gateways on one Valkey server, as replicas behind a load balancer without affinity."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from typing import TYPE_CHECKING

import aiohttp

from tests.support.client import ReceivedResponse
from tests.support.configuration import merged
from tests.support.gateway_restarts import RestartableGateway
from tests.support.waiting import WAIT_TIMEOUT

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from providers.contract import JsonValue
    from tests.conftest import StartGateway
    from tests.support.valkey import ValkeyServer

SHORT_LEASE = "2s"
"""A lease after which tests need not wait long."""
TAKEOVER_TIMEOUT = 20.0
"""Seconds: far more than that lease and a look, far less than the lease that is used where none is configured."""


class ReplicaPair:
    """Replica `one` and replica `two`, with the same configuration."""

    def __init__(self, start: StartGateway, session: aiohttp.ClientSession, folder: Path, server: ValkeyServer) -> None:
        self.server = server
        self.session = session
        shared: dict[str, JsonValue] = {"store": {"url": server.url}, "server": {"drain": 0}}
        self.one = RestartableGateway(start, session, folder / "unused.db", **shared)
        self.two = RestartableGateway(start, session, folder / "unused.db", **shared)

    @property
    def both(self) -> tuple[RestartableGateway, RestartableGateway]:
        """Both replicas."""
        return self.one, self.two

    async def start(self, **overrides: JsonValue) -> ReplicaPair:
        """Start both; returns itself."""
        await asyncio.gather(*(each.start(**overrides) for each in self.both))
        return self

    async def start_with_short_lease(self, **overrides: JsonValue) -> ReplicaPair:
        """Start both with a short lease; returns itself."""
        return await self.start(**merged({"store": {"lease": SHORT_LEASE}}, overrides))


async def post_until_answered(
    replicas: tuple[RestartableGateway, ...], body: Mapping[str, JsonValue], key: str
) -> ReceivedResponse:
    """POST /run with a key, at alternating replicas, until one of them returns the response of the run."""
    async with asyncio.timeout(2 * WAIT_TIMEOUT):
        while True:
            for replica in replicas:
                with contextlib.suppress(aiohttp.ClientError):
                    answered = await replica.post(body, Idempotency_Key=key)
                    if answered.status not in {409, 503}:
                        return answered
                await asyncio.sleep(0.1)


@contextlib.contextmanager
def suspended(pid: int) -> Iterator[None]:
    """Suspend the process (SIGSTOP) until the end of the block."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)
