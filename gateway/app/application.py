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

from gateway.api.promptlayer.realtime import RealtimeHub
from gateway.app.reload import Reloader
from gateway.clock import Clock
from gateway.http.middleware import InFlightLimiter
from gateway.limits.limiter import Limiter
from gateway.observability.metrics import Metrics
from gateway.runs.background import BackgroundTasks
from gateway.runs.catalog import Catalog

LISTEN_BACKLOG = 1024
"""How many connections may wait to be accepted."""
_IDLE_CHECK_INTERVAL = 0.05
_RESPONSE_GRACE = 1.0  # seconds for answers that are being sent when a port closes; aiohttp would wait for a minute


@dataclass(frozen=True, slots=True)
class Listener:
    """A port that is open. `url` has the real one; `addresses` are hosts and ports."""

    runner: web.ServerRunner
    addresses: tuple[tuple[str, int], ...]

    @classmethod
    async def open(cls, server: web.Server, host: str, port: int) -> Listener:
        """Listen; OSError where the address can not be had."""
        runner = await _create_runner(server)
        return await cls._start(runner, [web.TCPSite(runner, host, port, backlog=LISTEN_BACKLOG)])

    @classmethod
    async def from_sockets(cls, server: web.Server, sockets: Sequence[socket.socket]) -> Listener:
        """Accept from sockets that listen already, and that others may accept from too."""
        runner = await _create_runner(server)
        return await cls._start(runner, [web.SockSite(runner, sock, backlog=LISTEN_BACKLOG) for sock in sockets])

    @classmethod
    async def for_external_port(cls, server: web.Server, host: str, port: int) -> Listener:
        """Stand for a port that another process has open."""
        return cls(await _create_runner(server), ((host, port),))

    @classmethod
    async def _start(cls, runner: web.ServerRunner, sites: Sequence[web.BaseSite]) -> Listener:
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
        return http_url(*self.addresses[0])


async def _create_runner(server: web.Server) -> web.ServerRunner:
    runner = web.ServerRunner(server, shutdown_timeout=_RESPONSE_GRACE)
    await runner.setup()
    return runner


def http_url(host: str, port: int) -> str:
    """Where a client finds that address."""
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


OpenListeners: TypeAlias = Callable[[web.Server, web.Server], Awaitable[tuple[Listener, Listener]]]
"""Opens the public port and the operations port, both or none; OSError where that is not possible."""


@dataclass(frozen=True, slots=True)
class Application:
    """Everything that has to be closed again. A stopping gateway takes requests for `linger` more seconds.

    Runs in flight then have `grace` seconds to come to their end. `reload` is None where the configuration stays.
    """

    public: Listener
    ops: Listener
    in_flight_limiter: InFlightLimiter
    realtime: RealtimeHub
    background_tasks: BackgroundTasks
    limiter: Limiter
    catalog: Catalog
    reloader: Reloader | None
    metrics: Metrics
    drain_period: float
    grace_period: float
    clock: Clock

    async def drain(self) -> None:
        """Stop without cutting anybody off.

        Readiness fails first, answers carry `Connection: close`, and the port stays open for a while, so that
        balancers and keep-alive clients go elsewhere; then it closes, who waits on a WebSocket is sent elsewhere too,
        and the runs in flight come to their end, or their time does.
        """
        self.in_flight_limiter.draining = True
        await self.clock.sleep(self.drain_period)
        for site in list(self.public.runner.sites):
            await site.stop()
        await (
            self.realtime.close_all()
        )  # not before: the SDK for JavaScript gives up where it can not come back at once
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.grace_period):
                # Side by side: what is started late in the grace could not be answered within it.
                await asyncio.gather(self._wait_until_idle(), self.background_tasks.drain())

    async def _wait_until_idle(self) -> None:
        while self.in_flight_limiter.in_flight:
            await self.clock.sleep(_IDLE_CHECK_INTERVAL)

    async def close(self) -> None:
        """Close every port and connection, whatever is going on; who still waits is told how far the run came."""
        self.in_flight_limiter.draining = True
        await self.realtime.close_all()
        self.in_flight_limiter.cancel_runs()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_RESPONSE_GRACE):
                await self._wait_until_idle()
        if self.reloader is not None:
            await self.reloader.close()
        await self.public.runner.cleanup()
        await self.ops.runner.cleanup()
        await self.background_tasks.close()
        await self.limiter.close()
        for provider in self.catalog.providers:
            await provider.upstream.close()


async def serve_until_signal(application: Application, log: FilteringBoundLogger) -> None:
    """Serve until SIGTERM or SIGINT, then drain; a second signal ends it at once. SIGHUP reloads the configuration.

    "listening" is logged when a signal is already understood: whoever reads it may send one.
    """
    loop = asyncio.get_running_loop()
    signals: asyncio.Queue[signal.Signals] = asyncio.Queue()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, signals.put_nowait, number)
    if application.reloader is not None:
        loop.add_signal_handler(signal.SIGHUP, application.reloader.request)
    log.info("listening", url=application.public.url, ops_url=application.ops.url)
    log.info("draining", signal=(await signals.get()).name)
    await drain_and_close(application, signals.get())


async def drain_and_close(application: Application, stop_now: Coroutine[object, object, object]) -> None:
    """Drain and close; at once where `hurry` ends before the last run does."""
    await wait_for_first(application.drain(), stop_now)
    await application.close()


async def wait_for_first(*coroutines: Coroutine[object, object, object]) -> None:
    """Wait until one of them is done; the others are cancelled."""
    tasks = [asyncio.create_task(one) for one in coroutines]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
