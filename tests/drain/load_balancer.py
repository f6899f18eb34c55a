"""Minimal load balancer: polls /readyz every 50 ms and routes requests to ready gateways."""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from typing import TYPE_CHECKING, Self

from tests.support.raw_client import RawConnection, RawResponse, build_run

if TYPE_CHECKING:
    from collections.abc import Sequence

    import aiohttp

    from tests.support.process import GatewayProcess

_POLL_INTERVAL = 0.05  # seconds


class LoadBalancer:
    """Load balancer with keep-alive connections per gateway; honours `Connection: close`, retries nothing."""

    def __init__(self, session: aiohttp.ClientSession, gateways: Sequence[GatewayProcess]) -> None:
        self.ready = list(gateways)
        self.taken_out_at: dict[str, float] = {}
        self._session = session
        self._gateways = list(gateways)
        self._round_robin = itertools.count()
        self._idle_connections: dict[str, deque[RawConnection]] = {gateway.url: deque() for gateway in gateways}
        self._poller: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._poller = asyncio.create_task(self._poll())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._poller is not None
        self._poller.cancel()
        await asyncio.gather(self._poller, return_exceptions=True)
        for caller in (caller for callers in self._idle_connections.values() for caller in callers):
            caller.writer.transport.abort()

    async def send(self) -> RawResponse:
        """Send one run to a ready gateway, over a kept connection if possible."""
        url = self.ready[next(self._round_robin) % len(self.ready)].url
        idle = self._idle_connections[url]
        caller = idle.popleft() if idle else await _connect(url)
        await caller.send(build_run())
        answer = await caller.read_response()
        if answer.header("Connection") == "close":
            caller.writer.transport.abort()
        else:
            idle.append(caller)
        return answer

    async def _poll(self) -> None:
        while True:
            self.ready = [gateway for gateway in self._gateways if await self._is_ready(gateway)]
            await asyncio.sleep(_POLL_INTERVAL)

    async def _is_ready(self, gateway: GatewayProcess) -> bool:
        try:
            async with self._session.get(gateway.ops_url + "/readyz") as answer:
                ready = answer.status == 200
        except OSError:
            ready = False
        if not ready:
            self.taken_out_at.setdefault(gateway.url, asyncio.get_running_loop().time())
        return ready


async def _connect(url: str) -> RawConnection:
    host, _, port = url.removeprefix("http://").rpartition(":")
    return RawConnection(*await asyncio.open_connection(host, int(port)))
