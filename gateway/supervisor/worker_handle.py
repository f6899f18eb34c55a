"""A worker process as its supervisor sees it."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from gateway.supervisor.worker_spec import WorkerSpec
from gateway.supervisor.worker_status import MAX_LINE_BYTES, WorkerStatus

_REPLY_TIMEOUT = 1.0  # seconds that an answer may take, before what was said last counts


@dataclass(slots=True)
class WorkerHandle:
    """Lives from `launch` until `ended` returns. `last` is what it said last; `silent`: it does not answer now."""

    process: asyncio.subprocess.Process
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    last_status: WorkerStatus = field(default_factory=WorkerStatus)
    unresponsive: bool = True
    _has_reported: bool = False
    _last_request: int = 0
    _last_reply: int = 0
    _status_received: asyncio.Event = field(default_factory=asyncio.Event)
    _request_lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def ready(self) -> bool:
        """Whether it takes new work."""
        return self.last_status.ready and not self.unresponsive

    async def wait_until_exit(self, on_status: Callable[[], object]) -> int:
        """Listen to it until it ends, and say how: its exit code, negative for a signal. News are `changed`."""
        try:
            await self._read_loop(on_status)
            self.unresponsive = True
            return await self.process.wait()
        finally:
            self.writer.close()

    async def _read_loop(self, on_status: Callable[[], object]) -> None:
        with suppress(OSError, ValueError):  # who makes no sense is not listened to any more, but may go on
            while line := await self.reader.readline():
                self.last_status = WorkerStatus.decode(line)
                self._has_reported, self.unresponsive = True, False
                self._last_reply = max(self._last_reply, self.last_status.reply_to)
                self._status_received.set()
                on_status()

    async def refresh_status(self) -> None:
        """Have `last` anew. One that does not answer in time is `silent` until it does."""
        if self._has_reported:
            try:
                async with asyncio.timeout(_REPLY_TIMEOUT), self._request_lock:
                    await self._wait_for_reply()  # to a question that somebody gave up waiting for
                    self._last_request += 1
                    self.send(f"ask {self._last_request}")
                    await self._wait_for_reply()
            except TimeoutError:
                self.unresponsive = True

    async def _wait_for_reply(self) -> None:
        while self._last_reply < self._last_request:
            self._status_received.clear()
            await self._status_received.wait()

    def send(self, command: str) -> None:
        """Give an order; one that is gone does not mind."""
        if not self.writer.is_closing():
            self.writer.write(command.encode() + b"\n")

    def send_signal(self, number: signal.Signals) -> None:
        """Send it a signal, if it is still there."""
        if self.process.returncode is None:
            with suppress(ProcessLookupError):
                self.process.send_signal(number)


@dataclass(frozen=True, slots=True)
class WorkerLauncher:
    """Starts `command` with a berth as its last argument. The listening sockets are inherited, and nothing else is."""

    command: Sequence[str]
    listeners: Sequence[socket.socket]
    ops_address: tuple[str, int]
    store_url: str

    async def launch(self, index: int) -> WorkerHandle:
        """Start one; OSError where the system has no room for it."""
        parent_socket, child_socket = socket.socketpair()
        with child_socket:
            inherited = tuple(listener.fileno() for listener in self.listeners)
            spec = WorkerSpec(index, child_socket.fileno(), inherited, self.ops_address, self.store_url)
            try:
                process = await asyncio.create_subprocess_exec(
                    *self.command,
                    spec.to_json(),
                    pass_fds=(child_socket.fileno(), *inherited),
                    stdin=asyncio.subprocess.DEVNULL,
                    start_new_session=True,  # Ctrl-C is for the supervisor, which passes it on once
                )
            except OSError:
                parent_socket.close()
                raise
        reader, writer = await asyncio.open_unix_connection(sock=parent_socket, limit=MAX_LINE_BYTES)
        return WorkerHandle(process, reader, writer)
