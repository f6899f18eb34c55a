"""Connection of the fake upstream: record of requests and times, and methods for responses and faults."""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

from typing_extensions import override

if TYPE_CHECKING:
    from collections.abc import Callable

Headers = tuple[tuple[str, str], ...]


@dataclass(slots=True)
class ConnectionRecord:
    """Record of a connection; times are monotonic seconds, `eof_at` is the time of the peer's FIN or RST."""

    number: int
    opened_at: float
    eof_at: float | None = None


@dataclass(slots=True)
class ReceivedRequest:
    """Complete received request; `head` and `body` are its raw bytes."""

    connection: ConnectionRecord
    first_byte_at: float
    complete_at: float
    head: bytes
    body: bytes

    @property
    def method(self) -> str:
        """Method of the request line."""
        return self.head.split(b" ", 2)[0].decode("latin-1")

    @property
    def target(self) -> str:
        """Path and query, as on the wire."""
        return self.head.split(b" ", 2)[1].decode("latin-1")

    @property
    def path(self) -> str:
        """Target without its query, encoded."""
        return self.target.partition("?")[0]

    @property
    def headers(self) -> Headers:
        """Header fields as on the wire, in order."""
        lines = self.head.decode("latin-1").split("\r\n")[1:]
        pairs = (line.partition(":") for line in lines if line)
        return tuple((name, value.strip()) for name, _, value in pairs)

    def header(self, name: str) -> str | None:
        """Return the first header of that name, case-insensitively."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)


@dataclass(slots=True)
class _ReceiveBuffer:
    data: bytearray = field(default_factory=bytearray)
    first_byte_at: float = 0.0
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def take(self, size: int) -> bytes:
        taken = bytes(self.data[:size])
        del self.data[:size]
        return taken


class PeerDisconnectedError(ConnectionError):
    """The peer closed the connection."""


class UpstreamConnection(asyncio.Protocol):
    """Connection of the fake upstream. Scripts use `send`, `fin`, `reset` and `request`."""

    transport: asyncio.Transport
    record: ConnectionRecord

    def __init__(self, opened: Callable[[UpstreamConnection], None]) -> None:
        self.record = ConnectionRecord(0, 0.0)
        self.request: ReceivedRequest | None = None
        self.idle = True
        self.peer_closed = asyncio.Event()
        self.closed = asyncio.Event()
        self._on_open = opened
        self._closed_here = False
        self._buffer = _ReceiveBuffer()
        self._writable = asyncio.Event()
        self._writable.set()

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.record.opened_at = time.monotonic()
        self._on_open(self)

    @override
    def data_received(self, data: bytes) -> None:
        if not self._buffer.data:
            self._buffer.first_byte_at = time.monotonic()
        self._buffer.data += data
        self._buffer.changed.set()

    @override
    def eof_received(self) -> None:
        self._on_peer_closed()

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._on_peer_closed()
        self.closed.set()

    @override
    def pause_writing(self) -> None:
        self._writable.clear()

    @override
    def resume_writing(self) -> None:
        self._writable.set()

    async def read_request(self) -> ReceivedRequest | None:
        """Return the next complete request; None if the connection ends before."""
        if self.transport.is_closing():
            return None
        self.idle = True
        try:
            head = await self._read_until(b"\r\n\r\n")
            self.idle = False
            first_byte_at = self._buffer.first_byte_at
            body = await self._read_body(head.lower())
        except PeerDisconnectedError:
            return None
        self.request = ReceivedRequest(self.record, first_byte_at, time.monotonic(), head, body)
        return self.request

    async def send(self, data: bytes) -> None:
        """Write, and wait while the peer is slow to read. Raises PeerDisconnectedError once the peer has gone."""
        if self.peer_closed.is_set() or self.transport.is_closing():
            raise PeerDisconnectedError
        self.transport.write(data)
        await self._writable.wait()

    def fin(self) -> None:
        """Close gracefully after all written data."""
        self._closed_here = True
        self.transport.close()

    def reset(self) -> None:
        """Close with an RST, discarding unread and unwritten data."""
        if self.closed.is_set():
            return
        self._closed_here = True
        sock = self.transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()

    def _on_peer_closed(self) -> None:
        if self.record.eof_at is None and not self._closed_here:
            self.record.eof_at = time.monotonic()
        self.peer_closed.set()
        self._buffer.changed.set()
        self._writable.set()

    async def _read_body(self, head: bytes) -> bytes:
        if b"transfer-encoding: chunked" in head:
            return await self._read_until(b"0\r\n\r\n")
        _, _, rest = head.partition(b"\r\ncontent-length:")
        return await self._read_exactly(int(rest.partition(b"\r\n")[0] or 0))

    async def _read_until(self, end: bytes) -> bytes:
        while (at := self._buffer.data.find(end)) < 0:
            await self._wait_for_data()
        return self._buffer.take(at + len(end))

    async def _read_exactly(self, size: int) -> bytes:
        while len(self._buffer.data) < size:
            await self._wait_for_data()
        return self._buffer.take(size)

    async def _wait_for_data(self) -> None:
        if self.peer_closed.is_set():
            raise PeerDisconnectedError
        self._buffer.changed.clear()
        await self._buffer.changed.wait()
