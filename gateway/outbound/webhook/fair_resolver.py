"""DNS look-ups of callback receivers: a bounded number at once, shared fairly between clients.

A look-up at a silent name server occupies its thread for longer than any of its callers waits.
"""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeAlias

Resolver: TypeAlias = Callable[[str, int], Awaitable[Sequence[str]]]
"""Resolves a host and port to addresses, best first. Raises OSError if there are none."""

LOOKUPS = 32
"""Look-ups at once."""


class SystemResolver:
    """System resolver on separate threads: a slow name server must not delay the look-ups of providers."""

    def __init__(self, threads: int = LOOKUPS) -> None:
        self._executor = ThreadPoolExecutor(threads, "callback-names")

    async def __call__(self, host: str, port: int) -> list[str]:
        """Implement `Resolver`."""
        loop = asyncio.get_running_loop()
        found = await loop.run_in_executor(
            self._executor, socket.getaddrinfo, host, port, socket.AF_UNSPEC, socket.SOCK_STREAM
        )
        return [str(entry[4][0]) for entry in found]


class FairResolver:
    """Limits the look-ups at once. A client may occupy no more of them than remain free, and a name only one."""

    def __init__(self, resolver: Resolver, *, lookups: int = LOOKUPS) -> None:
        self._resolver = resolver
        self._lookups = lookups
        self._running: dict[tuple[str, int], asyncio.Task[Sequence[str]]] = {}
        self._running_of_client: Counter[str] = Counter()
        self._waiting: dict[asyncio.Future[None], None] = {}  # longest first

    async def resolve(self, client: str, host: str, port: int) -> Sequence[str]:
        """Resolve a name for a client. Waits for a place until it is cancelled. Raises OSError."""
        name = (host, port)
        while (running := self._running.get(name)) is None:
            if self._may_start(client):
                running = self._start(client, name)
                break
            await self._wait_for_change()
        return await asyncio.shield(running)

    def _may_start(self, client: str) -> bool:
        return self._running_of_client[client] < self._lookups - len(self._running)

    def _start(self, client: str, name: tuple[str, int]) -> asyncio.Task[Sequence[str]]:
        async def look_up() -> Sequence[str]:
            return await self._resolver(*name)

        task = self._running[name] = asyncio.create_task(look_up())
        self._running_of_client[client] += 1
        task.add_done_callback(lambda done: self._end(client, name, done))
        return task

    def _end(self, client: str, name: tuple[str, int], task: asyncio.Task[Sequence[str]]) -> None:
        del self._running[name]
        self._running_of_client[client] -= 1
        if not self._running_of_client[client]:
            del self._running_of_client[client]
        if not task.cancelled():
            task.exception()  # all its callers may have left
        for waiter in self._waiting:
            if not waiter.done():
                waiter.set_result(None)

    async def _wait_for_change(self) -> None:
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[waiter] = None
        try:
            await waiter
        finally:
            del self._waiting[waiter]
