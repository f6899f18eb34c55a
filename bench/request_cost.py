"""Cost of one request, counted without a network: Python calls and allocated memory, the same on every machine.

    python -m bench.request_cost      -> calls a request, memory of a run in flight

The connections of client and provider have transports that answer within the process. Everything that `bench.run`
configures is on.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import selectors
import sys
import tempfile
import tracemalloc
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any
from unittest import mock

from bench.fake_provider import ANSWER
from bench.load_generator import BODY
from bench.processes import KEY, gateway_config
from gateway.app import bootstrap, routes
from gateway.app.application import Application
from gateway.clock import SystemClock
from gateway.http.server import Server
from gateway.observability import json_logging
from gateway.outbound.provider.client import ProviderClient
from gateway.outbound.provider.http1_connection import ProviderConnection
from gateway.runs import history
from gateway.runs.history import HistoryRecorder
from gateway.settings import ConfigFiles

_REQUEST = (
    b"POST /run HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer %b\r\nContent-Type: application/json\r\n"
    b"Content-Length: %d\r\n\r\n%b" % (KEY.encode(), len(BODY), BODY)
)
_WARM_UP = 200
_COUNTED = 300
_IN_FLIGHT = 200
_MEMORY_ROUNDS = 9


@dataclass(frozen=True)
class RequestCost:
    """`python_calls`, `builtin_calls`: calls of functions for one request, coroutines once for each time they continue.

    `blocks`, `block_bytes`: memory that a run in flight holds, its two connections included but not their sockets.
    """

    python_calls: float
    builtin_calls: float
    blocks: float
    block_bytes: float


class _Transport(asyncio.Transport):
    """Transport that gives what is written to `on_write`."""

    def __init__(self, on_write: Callable[[bytes], None]) -> None:
        super().__init__({"peername": ("127.0.0.1", 1)})
        self._on_write = on_write
        self._closing = False

    def is_closing(self) -> bool:
        return self._closing

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self._on_write(bytes(data))

    def close(self) -> None:
        self._closing = True

    abort = close

    def pause_reading(self) -> None:
        """Do nothing."""

    resume_reading = pause_reading

    def get_write_buffer_size(self) -> int:
        return 0


@dataclass
class _Provider:
    """Provider that answers at once, or later while it `holds`."""

    holds: bool = False
    held: list[Callable[[], None]] = field(default_factory=list)
    all_held: asyncio.Event = field(default_factory=asyncio.Event)

    async def connect(self, client: ProviderClient, _seconds: float) -> ProviderConnection:
        """Return a new connection of the client's pool."""
        loop = asyncio.get_running_loop()
        connection = ProviderConnection(1_000_000, client._remove)  # noqa: SLF001  # instead of its `_connect`

        def on_write(_request: bytes) -> None:
            if self.holds:
                self.held.append(lambda: connection.data_received(ANSWER))
                if len(self.held) == _IN_FLIGHT:
                    self.all_held.set()
            else:
                loop.call_soon(connection.data_received, ANSWER)

        connection.connection_made(_Transport(on_write))
        return connection

    def answer_all(self) -> None:
        """Answer every request that is held."""
        held, self.held = self.held, []
        for answer in held:
            answer()


class _Client:
    """Connection of a client."""

    def __init__(self, server: Server) -> None:
        self._answered = asyncio.Event()
        self._protocol = server()
        self._protocol.connection_made(_Transport(self._receive))

    def _receive(self, data: bytes) -> None:
        if not data.startswith(b"HTTP/1.1 200 "):
            raise SystemExit(f"not answered with 200: {data!r}")
        self._answered.set()

    def send(self) -> None:
        """Send a request."""
        self._answered.clear()
        self._protocol.data_received(_REQUEST)

    async def wait(self) -> None:
        """Wait for the response."""
        await self._answered.wait()


async def measure() -> RequestCost:
    """Count the cost of one request."""
    provider = _Provider()

    async def connect(client: ProviderClient, seconds: float) -> ProviderConnection:
        return await provider.connect(client, seconds)

    with mock.patch.object(ProviderClient, "_connect", connect), mock.patch.object(history, "_INTERVAL", 86_400.0):
        application, server = await _start()
        try:
            client = _Client(server)
            await _repeat(client, _WARM_UP)
            calls = await _count_calls(client, application.components.history)
            # Other threads allocate as well, and tables grow: the least of several measurements is the run's own.
            rounds = [await _measure_memory(server, provider) for _ in range(_MEMORY_ROUNDS)]
            blocks, block_bytes = (min(figures) for figures in zip(*rounds, strict=True))
        finally:
            await application.close()
    return RequestCost(calls["call"] / _COUNTED, calls["c_call"] / _COUNTED, blocks, block_bytes)


async def _start() -> tuple[Application, Server]:
    servers: list[Server] = []
    build_server = routes.public_server

    def keep_server(*arguments: Any) -> Server:
        servers.append(build_server(*arguments))
        return servers[-1]

    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        json.dump(gateway_config(9), file)
        file.flush()
        with mock.patch.dict(os.environ, {"BENCH_KEY": "bench-key-0123"}):
            settings = ConfigFiles(Path(file.name)).load()
    clock = SystemClock()
    log = json_logging.configure("info", "json", clock)
    with mock.patch.object(routes, "public_server", keep_server):
        return await bootstrap.start_gateway(settings, clock, log), servers[0]


async def _repeat(client: _Client, times: int) -> None:
    for _ in range(times):
        client.send()
        await client.wait()


async def _count_calls(client: _Client, recorder: HistoryRecorder) -> Counter[str]:
    """Count the calls of `_COUNTED` requests, and of writing their records to the history.

    Those of this module and of the event loop are left out.
    """
    await recorder.write_pending()
    calls: Counter[str] = Counter()
    left_out = (__file__, selectors.__file__, str(Path(asyncio.__file__).parent))

    def count(frame: FrameType, event: str, _argument: object) -> None:
        if not frame.f_code.co_filename.startswith(left_out):
            calls[event] += 1

    sys.setprofile(count)
    try:
        await _repeat(client, _COUNTED)
        await recorder.write_pending()
    finally:
        sys.setprofile(None)
    return calls


async def _measure_memory(server: Server, provider: _Provider) -> tuple[float, float]:
    """Return the blocks and bytes of a run in flight."""
    provider.holds = True
    provider.all_held.clear()
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.take_snapshot()
    clients = [_Client(server) for _ in range(_IN_FLIGHT)]
    for client in clients:
        client.send()
    await provider.all_held.wait()
    gc.collect()
    after = tracemalloc.take_snapshot()
    tracemalloc.stop()
    provider.holds = False
    provider.answer_all()
    for client in clients:
        await client.wait()
    changes = [
        each for each in after.compare_to(before, "filename") if each.traceback[0].filename != tracemalloc.__file__
    ]
    return sum(each.count_diff for each in changes) / _IN_FLIGHT, sum(each.size_diff for each in changes) / _IN_FLIGHT


if __name__ == "__main__":
    cost = asyncio.run(measure())
    print(f"{cost.python_calls:6.0f} Python calls a request", file=sys.stderr)
    print(f"{cost.builtin_calls:6.0f} calls of built-in functions", file=sys.stderr)
    print(f"{cost.blocks:6.0f} blocks of memory for a run in flight, {cost.block_bytes / 1000:.1f} kB", file=sys.stderr)
