"""A gateway that listens: how it drains, and how it ends."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from aiohttp import web
from structlog.typing import FilteringBoundLogger

from gateway.access.limits import Limits
from gateway.api.middleware import Doors
from gateway.api.promptlayer.realtime import Realtime
from gateway.clock import Clock
from gateway.metrics import Metrics
from gateway.reload import Reload
from gateway.runs.catalog import Catalog
from gateway.runs.office import BackOffice
from gateway.systemd_notify import SILENT, Notifier

BACKLOG = 1024
"""How many connections may wait to be accepted."""
_TICK = 0.05
_LAST_WORDS = 1.0  # seconds for answers that are being sent when a port closes; aiohttp would wait for a minute


@dataclass(frozen=True, slots=True)
class Listener:
    """A port that is open. `url` has the real one; `addresses` are hosts and ports."""

    runner: web.ServerRunner
    addresses: tuple[tuple[str, int], ...]

    @classmethod
    async def open(cls, server: web.Server, host: str, port: int) -> Listener:
        """Listen; OSError where the address can not be had."""
        runner = await _runner(server)
        return await cls._begin(runner, [web.TCPSite(runner, host, port, backlog=BACKLOG)])

    @classmethod
    async def inherit(cls, server: web.Server, sockets: Sequence[socket.socket]) -> Listener:
        """Accept from sockets that listen already, and that others may accept from too."""
        runner = await _runner(server)
        return await cls._begin(runner, [web.SockSite(runner, sock, backlog=BACKLOG) for sock in sockets])

    @classmethod
    async def elsewhere(cls, server: web.Server, host: str, port: int) -> Listener:
        """Stand for a port that another process has open."""
        return cls(await _runner(server), ((host, port),))

    @classmethod
    async def _begin(cls, runner: web.ServerRunner, sites: Sequence[web.BaseSite]) -> Listener:
        try:
            for site in sites:
                await site.start()
        except OSError:
            await runner.cleanup()
            raise
        return cls(runner, tuple((address[0], address[1]) for address in runner.addresses))

    @property
    def url(self) -> str:
        """The first of its addresses."""
        return url(*self.addresses[0])


async def _runner(server: web.Server) -> web.ServerRunner:
    runner = web.ServerRunner(server, shutdown_timeout=_LAST_WORDS)
    await runner.setup()
    return runner


def url(host: str, port: int) -> str:
    """Where a client finds that address."""
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


Ports: TypeAlias = Callable[[web.Server, web.Server], Awaitable[tuple[Listener, Listener]]]
"""Opens the public port and the operations port, both or none; OSError where that is not possible."""


@dataclass(frozen=True, slots=True)
class Gateway:
    """Everything that has to be closed again. A stopping gateway takes requests for `linger` more seconds.

    Runs in flight then have `grace` seconds to come to their end. `reload` is None where the configuration stays.
    """

    public: Listener
    ops: Listener
    doors: Doors
    realtime: Realtime
    back_office: BackOffice
    limits: Limits
    catalog: Catalog
    reload: Reload | None
    metrics: Metrics
    linger: float
    grace: float
    clock: Clock

    async def drain(self) -> None:
        """Stop without cutting anybody off.

        Readiness fails first, answers carry `Connection: close`, and the port stays open for a while, so that
        balancers and keep-alive clients go elsewhere; then it closes, who waits on a WebSocket is sent elsewhere too,
        and the runs in flight come to their end, or their time does.
        """
        self.doors.draining = True
        await self.clock.sleep(self.linger)
        for site in list(self.public.runner.sites):
            await site.stop()
        await self.realtime.leave()  # not before: the SDK for JavaScript gives up where it can not come back at once
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.grace):
                # Side by side: what is started late in the grace could not be answered within it.
                await asyncio.gather(self._emptied(), self.back_office.settle())

    async def _emptied(self) -> None:
        while self.doors.in_flight:
            await self.clock.sleep(_TICK)

    async def close(self) -> None:
        """Close every port and connection, whatever is going on; who still waits is told how far the run came."""
        self.doors.draining = True
        await self.realtime.leave()
        self.doors.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LAST_WORDS):
                await self._emptied()
        if self.reload is not None:
            await self.reload.close()
        await self.public.runner.cleanup()
        await self.ops.runner.cleanup()
        await self.back_office.close()
        await self.limits.close()
        for provider in self.catalog.providers:
            await provider.upstream.close()


async def until_stopped(gateway: Gateway, log: FilteringBoundLogger, manager: Notifier = SILENT) -> None:
    """Serve until SIGTERM or SIGINT, then drain; a second signal ends it at once. SIGHUP reloads the configuration.

    "listening" is logged when a signal is already understood: whoever reads it may send one. The service `manager` is
    told of each of these steps, and that the event loop is not stuck.
    """
    loop = asyncio.get_running_loop()
    signals: asyncio.Queue[signal.Signals] = asyncio.Queue()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, signals.put_nowait, number)
    if gateway.reload is not None:
        _reload_on_signal(gateway.reload, manager)
    watched = asyncio.create_task(manager.keep_alive(gateway.clock))
    log.info("listening", url=gateway.public.url, ops_url=gateway.ops.url)
    manager.ready(f"serving at {gateway.public.url}")
    log.info("draining", signal=(await signals.get()).name)
    manager.stopping("draining")
    await finish(gateway, signals.get())
    watched.cancel()


def _reload_on_signal(reload: Reload, manager: Notifier) -> None:
    def ask() -> None:
        manager.reloading()
        reload.ask()

    reload.done = manager.ready
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, ask)


async def finish(gateway: Gateway, hurry: Coroutine[object, object, object]) -> None:
    """Drain and close; at once where `hurry` ends before the last run does."""
    await first_of(gateway.drain(), hurry)
    await gateway.close()


async def first_of(*work: Coroutine[object, object, object]) -> None:
    """Wait until one of them is done; the others are cancelled."""
    tasks = [asyncio.create_task(one) for one in work]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
