"""A TCP proxy in front of a gateway, whose WebSockets can be cut or held up: the network between an app and us."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from yarl import URL

_SOCKET = b"/connection/websocket"


@dataclass
class Cable:
    """Runs from `url` to the gateway. `sockets` are the WebSockets that were ever opened; `hold` keeps new ones out."""

    host: str
    port: int
    url: str = ""
    sockets: int = 0
    hold: asyncio.Event = field(default_factory=asyncio.Event)
    _open: set[asyncio.StreamWriter] = field(default_factory=set)

    def cut(self) -> int:
        """Reset every WebSocket; how many there were."""
        writers, self._open = self._open, set()
        for writer in writers:
            writer.transport.abort()
        return len(writers) // 2

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one connection."""
        there, back = await asyncio.open_connection(self.host, self.port)
        await asyncio.gather(self._up(reader, back, writer), _pump(there, writer))

    async def _up(self, app: asyncio.StreamReader, back: asyncio.StreamWriter, down: asyncio.StreamWriter) -> None:
        """From the app. Any of its connections may become a WebSocket: Node's are such that were used before."""
        with contextlib.suppress(ConnectionError):
            while data := await app.read(65_536):
                if _SOCKET in data.partition(b"\r\n")[0]:
                    await self.hold.wait()
                    self.sockets += 1
                    self._open |= {back, down}
                back.write(data)
                await back.drain()
        back.close()


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await source.read(65_536):
            sink.write(data)
            await sink.drain()
    sink.close()


@contextlib.asynccontextmanager
async def cable(gateway: str) -> AsyncIterator[Cable]:
    """Lay one to the gateway at this URL."""
    to = URL(gateway)
    laid = Cable(str(to.host), to.port or 80)
    laid.hold.set()
    tasks: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(laid.carry(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    laid.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield laid
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
