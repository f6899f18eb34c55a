"""A worker process as its supervisor sees it."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from gateway.supervisor.berth import Berth
from gateway.supervisor.report import LONGEST, Report

_PATIENCE = 1.0  # seconds that an answer may take, before what was said last counts


@dataclass(slots=True)
class Worker:
    """Lives from `launch` until `ended` returns. `last` is what it said last; `silent`: it does not answer now."""

    process: asyncio.subprocess.Process
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    last: Report = field(default_factory=Report)
    silent: bool = True
    _heard: bool = False
    _asked: int = 0
    _answered: int = 0
    _news: asyncio.Event = field(default_factory=asyncio.Event)
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def ready(self) -> bool:
        """Whether it takes new work."""
        return self.last.ready and not self.silent

    async def ended(self, changed: Callable[[], object]) -> int:
        """Listen to it until it ends, and say how: its exit code, negative for a signal. News are `changed`."""
        try:
            await self._listen(changed)
            self.silent = True
            return await self.process.wait()
        finally:
            self.writer.close()

    async def _listen(self, changed: Callable[[], object]) -> None:
        with suppress(OSError, ValueError):  # who makes no sense is not listened to any more, but may go on
            while line := await self.reader.readline():
                self.last = Report.read(line)
                self._heard, self.silent = True, False
                self._answered = max(self._answered, self.last.question)
                self._news.set()
                changed()

    async def ask(self) -> None:
        """Have `last` anew. One that does not answer in time is `silent` until it does."""
        if self._heard:
            try:
                async with asyncio.timeout(_PATIENCE), self._turn:
                    await self._answer()  # to a question that somebody gave up waiting for
                    self._asked += 1
                    self.tell(f"ask {self._asked}")
                    await self._answer()
            except TimeoutError:
                self.silent = True

    async def _answer(self) -> None:
        while self._answered < self._asked:
            self._news.clear()
            await self._news.wait()

    def tell(self, order: str) -> None:
        """Give an order; one that is gone does not mind."""
        if not self.writer.is_closing():
            self.writer.write(order.encode() + b"\n")

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal, if it is still there."""
        if self.process.returncode is None:
            with suppress(ProcessLookupError):
                self.process.send_signal(number)


@dataclass(frozen=True, slots=True)
class Launcher:
    """Starts `command` with a berth as its last argument. The listening sockets are inherited, and nothing else is."""

    command: Sequence[str]
    listeners: Sequence[socket.socket]
    ops: tuple[str, int]
    store: str

    async def launch(self, place: int) -> Worker:
        """Start one; OSError where the system has no room for it."""
        ours, theirs = socket.socketpair()
        with theirs:
            inherited = tuple(listener.fileno() for listener in self.listeners)
            berth = Berth(place, theirs.fileno(), inherited, self.ops, self.store)
            try:
                process = await asyncio.create_subprocess_exec(
                    *self.command,
                    berth.text(),
                    pass_fds=(theirs.fileno(), *inherited),
                    stdin=asyncio.subprocess.DEVNULL,
                    start_new_session=True,  # Ctrl-C is for the supervisor, which passes it on once
                )
            except OSError:
                ours.close()
                raise
        reader, writer = await asyncio.open_unix_connection(sock=ours, limit=LONGEST)
        return Worker(process, reader, writer)
