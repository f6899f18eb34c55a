"""Fake upstream on loopback: answers requests by scripts and counts them.

    async with FakeUpstream() as upstream:
        upstream.script("POST", "/v1/workflows/dep_test/run", [rst_after_request, reply(200, {"result": {}})])
        ...
        assert 1 == len(upstream.requests("POST"))

`requests` and `connections` record the actual behaviour of the gateway under test.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import socket
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Self

from tests.support.fake_upstream.connection import ConnectionRecord, ReceivedRequest, UpstreamConnection
from tests.support.fake_upstream.responses import reply

if TYPE_CHECKING:
    import ssl

    from tests.support.fake_upstream.faults import ResponseScript

Predicate = Callable[[ReceivedRequest], bool]

UNSCRIPTED = reply(418, {"message": "nothing was scripted for this request"})


class FakeUpstream:
    """One listener. `script` queues responses for a route; `always` is used after it; `default` for other routes.

    `log` holds each whole request in order of arrival, `connections` each accepted one (over TLS: after the
    handshake). An error inside a script is raised by `close`.
    """

    def __init__(self, *, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1", port: int = 0) -> None:
        self.received: list[ReceivedRequest] = []
        self.connections: list[ConnectionRecord] = []
        self.default: ResponseScript = UNSCRIPTED
        self._accept_scripts: deque[ResponseScript] = deque()
        self._queues: dict[tuple[str, str], deque[ResponseScript]] = {}
        self._routes: list[tuple[Predicate, ResponseScript]] = []
        self._tls = tls
        self._address = (host, port)
        self._server: asyncio.Server | None = None
        self._open_connections: set[UpstreamConnection] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._errors: list[Exception] = []

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    @property
    def url(self) -> str:
        """Base URL, constant over `down` and `up`."""
        scheme = "http" if self._tls is None else "https"
        return f"{scheme}://{self._address[0]}:{self._address[1]}"

    @property
    def open_connections(self) -> int:
        """Number of open connections."""
        return len(self._open_connections)

    async def start(self) -> None:
        """Start listening."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: UpstreamConnection(self._on_connection), *self._address, ssl=self._tls, reuse_address=True
        )
        self._address = self._server.sockets[0].getsockname()[:2]

    async def stop(self) -> None:
        """Stop listening and reset open connections; new connections are refused."""
        if self._server is not None:
            self._server.close()
            self._server = None
        wires = list(self._open_connections)
        for connection in wires:
            connection.reset()
        for connection in wires:
            await connection.closed.wait()

    async def close(self) -> None:
        """Close everything; raises errors of the scripts."""
        await self.stop()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._errors:
            raise ExceptionGroup("in the scripts of the fake upstream", self._errors)

    @contextlib.asynccontextmanager
    async def flap(self, up: float, down: float) -> AsyncIterator[None]:
        """Alternate between `up` seconds of service and `down` seconds of refusal until the block ends."""
        task = asyncio.create_task(self._alternate(up, down))
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            if self._server is None:
                await self.start()

    def script(self, method: str, path: str, scripts: Iterable[ResponseScript]) -> None:
        """Queue one script per request for that route (path without query, as on the wire)."""
        self._queues.setdefault((method, path), deque()).extend(scripts)

    def always(self, method: str, path: str, script: ResponseScript) -> None:
        """Set the response of a route for requests after its queue; the last call counts."""
        self.route(lambda request: (method, path) == (request.method, request.path), script)

    def route(self, predicate: Predicate, script: ResponseScript) -> None:
        """Like `always`, for requests that match the predicate."""
        self._routes.insert(0, (predicate, script))

    def on_accept(self, scripts: Iterable[ResponseScript]) -> None:
        """Queue one script per connection, executed before anything is read from it."""
        self._accept_scripts.extend(scripts)

    def requests(self, method: str | None = None, path: str | None = None) -> list[ReceivedRequest]:
        """Return the complete requests, of all routes or of one."""
        return [r for r in self.received if method in {None, r.method} and path in {None, r.path}]

    def request_gaps(self, method: str = "POST") -> list[float]:
        """Return the seconds between the end of each request and the first byte of the next one."""
        pairs = itertools.pairwise(self.requests(method))
        return [after.first_byte_at - before.complete_at for before, after in pairs]

    def _on_connection(self, connection: UpstreamConnection) -> None:
        connection.record.number = len(self.connections) + 1
        self.connections.append(connection.record)
        self._open_connections.add(connection)
        task = asyncio.create_task(self._serve(connection))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, connection: UpstreamConnection) -> None:
        try:
            if self._accept_scripts:
                await self._accept_scripts.popleft()(connection)
            while (request := await connection.read_request()) is not None:
                self.received.append(request)
                await self._script_for(request)(connection)
        except ConnectionError:
            pass  # the peer disconnected during a script, often on purpose
        except Exception as error:  # noqa: BLE001 - kept for `close`, or the test would not see it
            self._errors.append(error)
        finally:
            connection.fin()
            await connection.closed.wait()
            self._open_connections.discard(connection)

    def _script_for(self, request: ReceivedRequest) -> ResponseScript:
        queue = self._queues.get((request.method, request.path))
        if queue:
            return queue.popleft()
        return next((script for predicate, script in self._routes if predicate(request)), self.default)

    async def _alternate(self, up: float, down: float) -> None:
        while True:
            await asyncio.sleep(up)
            await self.stop()
            await asyncio.sleep(down)
            await self.start()


@contextlib.contextmanager
def closed_port(host: str = "127.0.0.1") -> Iterator[str]:
    """Base URL where every connection is refused; the port is bound, so that no other process can use it."""
    with socket.socket() as held:
        held.bind((host, 0))
        yield f"http://{host}:{held.getsockname()[1]}"


@contextlib.contextmanager
def unresponsive_port(host: str = "127.0.0.1") -> Iterator[str]:
    """Base URL where connections are neither accepted nor refused: the listener's queue is full (Linux)."""
    with contextlib.ExitStack() as held:
        listener = held.enter_context(socket.socket())
        listener.bind((host, 0))
        listener.listen(0)
        for _ in range(2):
            caller = held.enter_context(socket.socket())
            caller.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                caller.connect(listener.getsockname())
        yield f"http://{host}:{listener.getsockname()[1]}"
