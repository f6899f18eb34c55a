"""A balancer as small as one can be: it asks /readyz every 50 ms, and sends requests to gateways that are ready."""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from typing import TYPE_CHECKING, Self

from tests.edge.raw import Caller, Reply, post

if TYPE_CHECKING:
    from collections.abc import Sequence

    import aiohttp

    from tests.process import Gateway

_EVERY = 0.05  # seconds


class Balancer:
    """Keeps connections to each gateway, and opens another where one said `Connection: close`. It repeats nothing."""

    def __init__(self, session: aiohttp.ClientSession, gateways: Sequence[Gateway]) -> None:
        self.ready = list(gateways)
        self.taken_out_at: dict[str, float] = {}
        self._session = session
        self._gateways = list(gateways)
        self._turns = itertools.count()
        self._rested: dict[str, deque[Caller]] = {gateway.url: deque() for gateway in gateways}
        self._poller: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._poller = asyncio.create_task(self._poll())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._poller is not None
        self._poller.cancel()
        await asyncio.gather(self._poller, return_exceptions=True)
        for caller in (caller for callers in self._rested.values() for caller in callers):
            caller.writer.transport.abort()

    async def send(self) -> Reply:
        """One run at one of the gateways that are ready, over a connection that is kept if there is one."""
        url = self.ready[next(self._turns) % len(self.ready)].url
        rested = self._rested[url]
        caller = rested.popleft() if rested else await _connect(url)
        await caller.send(post())
        answer = await caller.reply()
        if answer.header("Connection") == "close":
            caller.writer.transport.abort()
        else:
            rested.append(caller)
        return answer

    async def _poll(self) -> None:
        while True:
            self.ready = [gateway for gateway in self._gateways if await self._is_ready(gateway)]
            await asyncio.sleep(_EVERY)

    async def _is_ready(self, gateway: Gateway) -> bool:
        try:
            async with self._session.get(gateway.ops_url + "/readyz") as answer:
                ready = answer.status == 200
        except OSError:
            ready = False
        if not ready:
            self.taken_out_at.setdefault(gateway.url, asyncio.get_running_loop().time())
        return ready


async def _connect(url: str) -> Caller:
    host, _, port = url.removeprefix("http://").rpartition(":")
    return Caller(*await asyncio.open_connection(host, int(port)))
