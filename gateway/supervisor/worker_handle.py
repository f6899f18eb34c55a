"""Handle of a worker process in the supervisor."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from gateway.supervisor.accepting.turns import AcceptCounts
from gateway.supervisor.worker_spec import WorkerSpec
from gateway.supervisor.worker_status import MAX_LINE_BYTES, WorkerStatus

_REPLY_TIMEOUT = 1.0  # seconds; after that the last status is used
_ANSWER_TIMEOUT = 25.0  # seconds to store and start a run, or to cancel one
START_RUN, CANCEL_RUN = b"run", b"cancel"
"""Commands that a worker answers. Their line has the number of the request and a JSON value."""
ANSWER = b"answer "
"""Start of a line of a worker that is the answer to such a command: the number, and a JSON value."""


class WorkerGone(Exception):
    """The worker has ended before it answered."""


@dataclass(slots=True)
class WorkerHandle:
    """A worker from `launch` to `wait_until_exit`. `unresponsive`: it did not answer the last request in time."""

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
    _answers: dict[int, asyncio.Future[bytes]] = field(default_factory=dict)
    _last_command: int = 0

    @property
    def ready(self) -> bool:
        """True if the worker accepts new requests."""
        return self.last_status.ready and not self.unresponsive

    async def wait_until_exit(self, on_status: Callable[[], object]) -> int:
        """Read its status messages until it exits. Returns the exit code, negative for a signal."""
        try:
            await self._read_loop(on_status)
            self.unresponsive = True
            for answer in self._answers.values():
                if not answer.done():
                    answer.set_exception(WorkerGone())
            return await self.process.wait()
        finally:
            self.writer.close()

    async def _read_loop(self, on_status: Callable[[], object]) -> None:
        with suppress(OSError, ValueError):  # after an invalid message the channel is ignored; the worker may continue
            while line := await self.reader.readline():
                if line.startswith(ANSWER):
                    self._receive_answer(line)
                    continue
                self.last_status = WorkerStatus.decode(line)
                self._has_reported, self.unresponsive = True, False
                self._last_reply = max(self._last_reply, self.last_status.reply_to)
                self._status_received.set()
                on_status()

    async def ask(self, command: bytes, value: bytes) -> bytes:
        """Send a command with a JSON value on one line; returns the worker's answer.

        Raises WorkerGone, and TimeoutError if it does not answer.
        """
        self._last_command += 1
        number = self._last_command
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._answers[number] = answer
        try:
            if self.writer.is_closing():
                raise WorkerGone
            self.writer.write(b"%b %d %b\n" % (command, number, value))
            async with asyncio.timeout(_ANSWER_TIMEOUT):
                return await answer
        finally:
            del self._answers[number]

    def _receive_answer(self, line: bytes) -> None:
        number, _, content = line.removeprefix(ANSWER).partition(b" ")
        answer = self._answers.get(int(number))
        if answer is not None and not answer.done():
            answer.set_result(content.strip())

    async def refresh_status(self) -> None:
        """Request a new `last_status` (heartbeat); marks the worker as `unresponsive` if it does not answer in time."""
        if self._has_reported:
            try:
                async with asyncio.timeout(_REPLY_TIMEOUT), self._request_lock:
                    await self._wait_for_reply()  # to an earlier request whose caller was cancelled
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
        """Send a command; ignored if the worker has exited."""
        if not self.writer.is_closing():
            self.writer.write(command.encode() + b"\n")

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal, if the process is running."""
        if self.process.returncode is None:
            with suppress(ProcessLookupError):
                self.process.send_signal(number)


@dataclass(frozen=True, slots=True)
class WorkerLauncher:
    """Starts `command` with a worker spec as its last argument.

    Only the listening sockets and the memory of `accept_counts` are inherited.
    """

    command: Sequence[str]
    listeners: Sequence[socket.socket]
    accept_counts: AcceptCounts
    ops_address: tuple[str, int]
    store_url: str

    async def launch(self, index: int) -> WorkerHandle:
        """Start a worker. Raises OSError."""
        parent_socket, child_socket = socket.socketpair()
        with child_socket:
            listeners, counts = tuple(listener.fileno() for listener in self.listeners), self.accept_counts.descriptor
            spec = WorkerSpec(index, child_socket.fileno(), listeners, counts, self.ops_address, self.store_url)
            try:
                process = await asyncio.create_subprocess_exec(
                    *self.command,
                    spec.to_json(),
                    pass_fds=(child_socket.fileno(), *listeners, counts),
                    stdin=asyncio.subprocess.DEVNULL,
                    start_new_session=True,  # the supervisor alone receives Ctrl-C, and forwards it once
                )
            except OSError:
                parent_socket.close()
                raise
        reader, writer = await asyncio.open_unix_connection(sock=parent_socket, limit=MAX_LINE_BYTES)
        return WorkerHandle(process, reader, writer)
