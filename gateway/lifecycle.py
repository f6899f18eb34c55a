"""A gateway that listens: how it drains, and how it ends."""

from __future__ import annotations

import asyncio
import signal
from dataclasses import dataclass

from aiohttp import web
from structlog.typing import FilteringBoundLogger

from gateway.api.middleware import Doors
from gateway.clock import Clock
from gateway.runs.catalog import Provider
from gateway.runs.office import BackOffice

_TICK = 0.05
_LAST_WORDS = 1.0  # seconds for answers that are being sent when a port closes; aiohttp would wait for a minute


@dataclass(frozen=True, slots=True)
class Listener:
    """A port that is open. `url` has the real one."""

    runner: web.ServerRunner
    url: str

    @classmethod
    async def open(cls, server: web.Server, host: str, port: int) -> Listener:
        """Listen; OSError where the address can not be had."""
        runner = web.ServerRunner(server, shutdown_timeout=_LAST_WORDS)
        await runner.setup()
        site = web.TCPSite(runner, host, port, backlog=1024)
        try:
            await site.start()
        except OSError:
            await runner.cleanup()
            raise
        where = runner.addresses[0]
        name = f"[{where[0]}]" if ":" in where[0] else where[0]
        return cls(runner, f"http://{name}:{where[1]}")

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """Where it listens: host and port."""
        return [(address[0], address[1]) for address in self.runner.addresses]


@dataclass(frozen=True, slots=True)
class Gateway:
    """Everything that has to be closed again. A stopping gateway takes requests for `linger` more seconds."""

    public: Listener
    ops: Listener
    doors: Doors
    back_office: BackOffice
    providers: tuple[Provider, ...]
    linger: float
    clock: Clock

    async def drain(self) -> None:
        """Stop without cutting anybody off.

        Readiness fails first, answers carry `Connection: close`, and the port stays open for a while, so that
        balancers and keep-alive clients go elsewhere; then it closes, and the runs in flight come to their end.
        """
        self.doors.draining = True
        await self.clock.sleep(self.linger)
        for site in list(self.public.runner.sites):
            await site.stop()
        while self.doors.in_flight:
            await self.clock.sleep(_TICK)
        await self.back_office.settle()

    async def close(self) -> None:
        """Close every port and connection, whatever is going on."""
        self.doors.draining = True
        await self.public.runner.cleanup()
        await self.ops.runner.cleanup()
        await self.back_office.close()
        for provider in self.providers:
            await provider.upstream.close()


async def until_stopped(gateway: Gateway, log: FilteringBoundLogger) -> None:
    """Serve until SIGTERM or SIGINT, then drain; a second signal ends it at once.

    "listening" is logged when a signal is already understood: whoever reads it may send one.
    """
    loop = asyncio.get_running_loop()
    signals: asyncio.Queue[signal.Signals] = asyncio.Queue()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, signals.put_nowait, number)
    log.info("listening", url=gateway.public.url, ops_url=gateway.ops.url)
    log.info("draining", signal=(await signals.get()).name)
    draining = asyncio.create_task(gateway.drain())
    again = asyncio.create_task(signals.get())
    await asyncio.wait({draining, again}, return_when=asyncio.FIRST_COMPLETED)
    for task in (draining, again):
        task.cancel()
    await asyncio.gather(draining, again, return_exceptions=True)
    await gateway.close()
