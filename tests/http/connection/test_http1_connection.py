"""Connection of usual requests: nothing that was answered is lost at its end, and no client keeps it for nothing."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest

from gateway.http.connection.http1_connection import Http1Connection
from gateway.http.request import Request, Route
from gateway.http.response import Response, make_response
from gateway.http.server import Server
from tests.http.connection.test_equivalence import REQUEST, compare
from tests.support.waiting import wait_until

_BODY = 60_000  # bytes: less than what pauses writing


@dataclass
class StalledClient:
    """A client that has not read its responses, so that a part of the last one is still in the process."""

    server: Server
    listener: asyncio.Server
    sock: socket.socket
    sent: int = 0
    answered: list[Request] = field(default_factory=list)

    @property
    def connection(self) -> Http1Connection:
        """The server's side."""
        [connection] = self.server.http1_connections
        return connection

    @property
    def transport(self) -> asyncio.Transport:
        """Transport of the server's side."""
        assert self.connection._transport is not None
        return self.connection._transport

    async def fill(self) -> None:
        """Send requests until a response does not fit into the buffers of the system."""
        await wait_until(lambda: len(self.server.http1_connections) == 1)
        while self.transport.get_write_buffer_size() == 0:
            assert self.sent < 1000
            await asyncio.get_running_loop().sock_sendall(self.sock, b"GET /b HTTP/1.1\r\nHost: h\r\n\r\n")
            self.sent += 1
            await wait_until(lambda: len(self.answered) == self.sent and self.connection.task is None)

    async def read_all(self) -> int:
        """Return the number of bytes until the end of the connection."""
        size = 0
        while part := await asyncio.get_running_loop().sock_recv(self.sock, 1 << 20):
            size += len(part)
        return size


@contextlib.asynccontextmanager
async def stalled_client(header_timeout: float) -> AsyncIterator[StalledClient]:
    answered: list[Request] = []

    async def answer(request: Request) -> Response:
        answered.append(request)
        return make_response(200, b"x" * _BODY, "text/plain")

    server = Server([Route("GET", "/b", answer, "b")], [], header_timeout=header_timeout, idle_timeout=0.3)
    listener = await asyncio.get_running_loop().create_server(server, "127.0.0.1", 0)
    with socket.socket() as sock:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await asyncio.get_running_loop().sock_connect(sock, listener.sockets[0].getsockname())
        client = StalledClient(server, listener, sock, answered=answered)
        await client.fill()
        try:
            yield client
        finally:
            listener.close()
            await server.shutdown(1.0)


async def test_a_shutdown_waits_until_a_response_is_read() -> None:
    """The response of a paid run must not be cut, also if its handler has ended."""
    async with stalled_client(header_timeout=30.0) as client:
        client.connection.closes_at += 30  # the idle timeout has no part in this test
        reading = asyncio.create_task(client.read_all())
        client.listener.close()
        client.server.pre_shutdown()
        await client.server.shutdown(20.0)
        head = make_response(200, b"x" * _BODY, "text/plain").head()
        assert client.sent * (_BODY + len(head)) == await reading


async def test_a_client_that_does_not_read_does_not_keep_an_idle_connection() -> None:
    """Each would occupy a descriptor and a buffer for as long as it likes."""
    async with stalled_client(header_timeout=0.2) as client:
        await wait_until(lambda: not client.server.http1_connections)


@pytest.mark.parametrize("ends", ["shutdown", "close"])
async def test_a_small_response_is_sent_when_the_connection_ends_at_once(ends: str) -> None:
    """It waits to be written with the responses of other connections when the end comes."""

    async def answer(_request: Request) -> Response:
        response = make_response(200, b"paid for", "text/plain")
        response.closes = ends == "close"
        if ends == "shutdown":
            asyncio.get_running_loop().call_soon(server.pre_shutdown)
        return response

    server = Server([Route("GET", "/b", answer, "b")], [], header_timeout=30.0, idle_timeout=30.0)
    listener = await asyncio.get_running_loop().create_server(server, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*listener.sockets[0].getsockname())
    writer.write(b"GET /b HTTP/1.1\r\nHost: h\r\n\r\n")
    assert b"paid for" in await asyncio.wait_for(reader.read(), 10)
    writer.close()
    listener.close()
    await server.shutdown(1.0)


async def test_pipelined_responses_keep_their_order() -> None:
    """Small ones wait for the write batch, and large ones do not."""
    sizes = [10, 100_000, 20, 30, 17_000, 40]

    async def answer(request: Request) -> Response:
        return make_response(200, b"x" * int(request.path_param), "text/plain")

    server = Server([Route("GET", "/{id}", answer, "b")], [], header_timeout=30.0, idle_timeout=30.0)
    listener = await asyncio.get_running_loop().create_server(server, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*listener.sockets[0].getsockname())
    writer.write(b"".join(b"GET /%d HTTP/1.1\r\nHost: h\r\n\r\n" % size for size in sizes))
    for size in sizes:
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
        assert b"Content-Length: %d\r\n" % size in head
        await reader.readexactly(size)
    writer.close()
    listener.close()
    await server.shutdown(1.0)


async def test_the_header_timeout_begins_after_the_tls_handshake() -> None:
    """The event loop creates the protocol before the handshake, which may take longer than the timeout."""
    server = Server([], [], header_timeout=30.0)
    connection = Http1Connection(server)
    handshake_ends = asyncio.get_running_loop().time() + 60.0
    ours, theirs = socket.socketpair()
    with theirs, pytest.MonkeyPatch.context() as patch:
        patch.setattr(asyncio.get_running_loop(), "time", lambda: handshake_ends)
        transport, _ = await asyncio.get_running_loop().create_connection(lambda: connection, sock=ours)
        assert handshake_ends + 30.0 == connection.closes_at
        transport.abort()


@pytest.mark.parametrize("first", [b"POST", b"GET", b"HEAD", b"DELETE"])
@pytest.mark.parametrize("cut", range(9))
async def test_the_beginning_of_the_next_request_changes_nothing(first: bytes, cut: int) -> None:
    """The parser knows the method of the next request before its target."""
    following = b"GET /runs/run_1 HTTP/1.1\r\nHost: h\r\nX-A: 1\r\nX-A: 2\r\n\r\n"
    for request in (REQUEST.replace(b"POST", first), following.replace(b"GET", first)):
        await compare([request + following[:cut], following[cut:]])
        await compare([request + REQUEST[:cut], REQUEST[cut:]])
