"""What a worker process does: serve, answer its supervisor, and drain when it is told to or left alone."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import signal
import socket
from contextlib import suppress
from dataclasses import dataclass, field

from structlog.typing import FilteringBoundLogger

from gateway.app import start
from gateway.clock import Clock
from gateway.lifecycle import Gateway, finish
from gateway.reload import Source
from gateway.settings import Settings
from gateway.supervisor.berth import Berth
from gateway.supervisor.report import Report

_LAST_WORDS = 1.0  # seconds; a supervisor that does not listen does not keep a worker from ending


async def serve(
    berth: Berth, settings: Settings, clock: Clock, log: FilteringBoundLogger, source: Source | None = None
) -> None:
    """Serve until told to end; `source` as `app.start` has it.

    A supervisor that is gone holds the port no more, and its successor wants it: without one the port closes at once,
    and the process ends with its last run. Raises as `app.start` does.
    """
    channel = socket.socket(fileno=berth.channel)
    reader, writer = await asyncio.open_unix_connection(sock=channel)
    gateway = await start(settings, clock, log, source, berth.ports)
    duty = _Duty(gateway, writer)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # it is the supervisor's, and comes as an order
    for number in (signal.SIGTERM, signal.SIGINT):  # a whole control group may be told: once more is not a hurry
        asyncio.get_running_loop().add_signal_handler(number, duty.drain.set)
    log.info("ready", pid=os.getpid())
    duty.report()
    obeying = asyncio.create_task(duty.obey(reader))
    await duty.drain.wait()
    log.info("draining")
    await finish(dataclasses.replace(gateway, linger=0.0) if duty.alone else gateway, duty.hurry.wait())
    duty.report()  # its last numbers
    obeying.cancel()
    with suppress(OSError, TimeoutError):
        writer.close()
        async with asyncio.timeout(_LAST_WORDS):
            await writer.wait_closed()


@dataclass(slots=True)
class _Duty:
    gateway: Gateway
    writer: asyncio.StreamWriter
    drain: asyncio.Event = field(default_factory=asyncio.Event)
    hurry: asyncio.Event = field(default_factory=asyncio.Event)
    alone: bool = False

    async def obey(self, reader: asyncio.StreamReader) -> None:
        """Do what the supervisor says; its end is an order too."""
        orders = {b"drain": self.drain.set, b"hurry": self.hurry.set}
        if self.gateway.reload is not None:
            orders[b"reload"] = self.gateway.reload.ask
        with suppress(OSError):
            while line := await reader.readline():
                order, _, question = line.strip().partition(b" ")
                if order == b"ask":
                    self.report(int(question))
                elif order in orders:
                    orders[order]()
        self.alone = True
        self.drain.set()

    def report(self, question: int = 0) -> None:
        """Say how things are. There is one question at a time, so that nothing piles up."""
        gateway = self.gateway
        fails = gateway.back_office.store.failing
        report = Report(question, not gateway.doors.draining, gateway.metrics.numbers(), store_fails=fails)
        if not self.writer.is_closing():
            self.writer.write(report.line())
