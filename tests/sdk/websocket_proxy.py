"""TCP proxy in front of a gateway whose WebSockets can be reset or delayed."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from yarl import URL

_SOCKET = b"/connection/websocket"


@dataclass
class WebSocketProxy:
    """Proxy from `url` to the gateway. `sockets`: all WebSockets so far; `hold` delays new ones."""

    host: str
    port: int
    url: str = ""
    websocket_count: int = 0
    accepting: asyncio.Event = field(default_factory=asyncio.Event)
    _open: set[asyncio.StreamWriter] = field(default_factory=set)

    def reset_websockets(self) -> int:
        """Reset every WebSocket; returns their number."""
        writers, self._open = self._open, set()
        for writer in writers:
            writer.transport.abort()
        return len(writers) // 2

    async def forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Forward one connection."""
        gateway_reader, gateway_writer = await asyncio.open_connection(self.host, self.port)
        await asyncio.gather(self._forward_client_data(reader, gateway_writer, writer), _copy(gateway_reader, writer))

    async def _forward_client_data(
        self, app: asyncio.StreamReader, gateway_writer: asyncio.StreamWriter, down: asyncio.StreamWriter
    ) -> None:
        """Forward data of the client. Any connection may become a WebSocket, as Node reuses connections."""
        with contextlib.suppress(ConnectionError):
            while data := await app.read(65_536):
                if _SOCKET in data.partition(b"\r\n")[0]:
                    await self.accepting.wait()
                    self.websocket_count += 1
                    self._open |= {gateway_writer, down}
                gateway_writer.write(data)
                await gateway_writer.drain()
        gateway_writer.close()


async def _copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await source.read(65_536):
            sink.write(data)
            await sink.drain()
    sink.close()


@contextlib.asynccontextmanager
async def running_proxy(gateway: str) -> AsyncIterator[WebSocketProxy]:
    """Run a proxy to the gateway at this URL."""
    to = URL(gateway)
    proxy = WebSocketProxy(str(to.host), to.port or 80)
    proxy.accepting.set()
    tasks: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(proxy.forward(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    proxy.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield proxy
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
