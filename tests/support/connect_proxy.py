"""HTTP proxy on loopback that opens tunnels by CONNECT, and records what it sees."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field


@dataclass
class ConnectProxy:
    """`requests` are the heads of the CONNECT requests; `forwarded` are all bytes towards the destinations.

    `hosts` maps host names to addresses. `response` replaces the response, and no tunnel is opened.
    """

    hosts: Mapping[str, str] = field(default_factory=dict)
    response: bytes | None = None
    requests: list[str] = field(default_factory=list)
    forwarded: bytearray = field(default_factory=bytearray)
    url: str = ""
    _writers: list[asyncio.StreamWriter] = field(default_factory=list)
    _handlers: list[asyncio.Task[None] | None] = field(default_factory=list)

    @property
    def targets(self) -> list[str]:
        """Return the target of each request."""
        return [request.split(" ")[1] for request in self.requests]

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        self._handlers.append(asyncio.current_task())
        self._writers.append(writer)
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            self.requests.append(head)
            if self.response is not None:
                writer.write(self.response)
                await writer.drain()
            else:
                await self._tunnel(head, reader, writer)
        writer.close()

    async def close(self) -> None:
        """Abort all connections, and wait until their tasks have ended."""
        for writer in self._writers:
            writer.transport.abort()
        await asyncio.gather(*filter(None, self._handlers))

    async def _tunnel(self, head: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        method, target, _ = head.split(" ", 2)
        if method != "CONNECT":
            writer.write(b"HTTP/1.1 405 Method Not Allowed\r\nContent-Length: 0\r\n\r\n")
            return
        host, _, port = target.rpartition(":")
        to_reader, to_writer = await asyncio.open_connection(self.hosts.get(host, host), int(port))
        self._writers.append(to_writer)
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        try:
            back = asyncio.create_task(_copy(to_reader, writer))
            await _copy(reader, to_writer, self.forwarded)
            await back
        finally:
            to_writer.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, record: bytearray | None = None) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            if record is not None:
                record += data
            writer.write(data)
            await writer.drain()
    writer.close()


@contextlib.asynccontextmanager
async def connect_proxy(proxy: ConnectProxy | None = None) -> AsyncIterator[ConnectProxy]:
    """Start a proxy."""
    proxy = proxy or ConnectProxy()
    server = await asyncio.start_server(proxy.handle, "127.0.0.1", 0)
    proxy.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield proxy
    finally:
        server.close()
        await proxy.close()
