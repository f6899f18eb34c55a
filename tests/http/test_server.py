"""HTTP server and router: invalid HTTP is refused, and no part of it is echoed."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import NoReturn
from unittest.mock import Mock

import pytest

from gateway.app.listeners import Listener
from gateway.http.request import Handler, Request, Route
from gateway.http.response import Response, make_response
from gateway.http.server import Server
from tests.http.server_harness import (
    JSON_BODY,
    KEY,
    LARGE_BODY_BYTES,
    ServerHarness,
    build_request,
    build_run_request,
    parse_responses,
    running_server,
)

BODY = b'{"workflow":"w"}'
KEYED = b"Authorization: Bearer " + KEY.encode() + b"\r\n"
MAX_WAITING_REQUESTS = 64  # of one connection
MAX_DRIPS = 300  # with pauses of 50 ms: far longer than the header timeout of the test
SECOND = b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n"


def build_post(*fields: bytes, host: bytes = b"Host: a\r\n", line: bytes = b"POST /run HTTP/1.1\r\n") -> bytes:
    """Return a request with these raw header lines."""
    return line + host + KEYED + JSON_BODY + b"".join(fields) + b"\r\n"


LENGTH = b"Content-Length: 16\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"
MALFORMED = {
    "a length and chunks": build_post(LENGTH, CHUNKED) + b"10\r\n" + BODY + b"\r\n0\r\n\r\n",
    "two lengths": build_post(LENGTH, b"Content-Length: 17\r\n") + BODY,
    "two equal lengths": build_post(LENGTH, LENGTH) + BODY,
    "a list of lengths": build_post(b"Content-Length: 16, 16\r\n") + BODY,
    "a signed length": build_post(b"Content-Length: +16\r\n") + BODY,
    "a negative length": build_post(b"Content-Length: -1\r\n") + BODY,
    "a hexadecimal length": build_post(b"Content-Length: 0x10\r\n") + BODY,
    "a length in other digits": build_post("Content-Length: ١٦\r\n".encode()) + BODY,
    "xchunked": build_post(b"Transfer-Encoding: xchunked\r\n") + b"0\r\n\r\n",
    "chunked twice": build_post(CHUNKED, CHUNKED) + b"0\r\n\r\n",
    "a space before the colon": build_post(b"Transfer-Encoding : chunked\r\n") + b"0\r\n\r\n",
    "bare line feeds": build_post(LENGTH).replace(b"\r\n", b"\n") + BODY,
    "a folded header": build_post(b"X-A: b\r\n c\r\n", LENGTH) + BODY,
    "no Host": build_post(LENGTH, host=b"") + BODY,
    "two Hosts": build_post(LENGTH, host=b"Host: a\r\nHost: b\r\n") + BODY,
    "a Host with a path": build_post(LENGTH, host=b"Host: a/b?CANARY\r\n") + BODY,
    "a Host with a space": build_post(LENGTH, host=b"Host: a CANARY\r\n") + BODY,
    "NUL in a key": build_post(b"X-API-KEY: CANARY\x00\r\n", LENGTH) + BODY,
    "CR in a value": build_post(b"X-API-KEY: CANARY\rX: y\r\n", LENGTH) + BODY,
    "a header without a name": build_post(b": CANARY\r\n", LENGTH) + BODY,
    "a header without a colon": build_post(b"CANARY\r\n", LENGTH) + BODY,
    "HTTP/2.0": build_post(LENGTH, line=b"POST /run HTTP/2.0\r\n") + BODY,
    "HTTP/9.9": build_post(LENGTH, line=b"POST /run HTTP/9.9\r\n") + BODY,
    "no version": b"GET /CANARY\r\n\r\n",
    "a space in the target": build_post(LENGTH, line=b"POST /run CANARY HTTP/1.1\r\n") + BODY,
    "an unknown method": build_post(LENGTH, line=b"FOO /run HTTP/1.1\r\n") + BODY,
    "a bad method": build_post(LENGTH, line=b"PO[ST /run HTTP/1.1\r\n") + BODY,
    "a bad chunk": build_post(CHUNKED) + b"ZZ\r\nCANARY\r\n",
    "an endless chunk size": build_post(CHUNKED) + b"f" * 40 + b"\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03CANARY\r\n\r\n",
    "the preface of HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
}


@pytest.mark.parametrize("bad", MALFORMED)
async def test_what_is_not_http_is_a_problem_and_the_end_of_the_connection(server: ServerHarness, bad: str) -> None:
    """R70, R71: 400; no later byte is read as a request; neither response nor log quotes anything."""
    raw = await server.send_raw(MALFORMED[bad] + SECOND)
    found = parse_responses(raw)
    assert ["malformed_request"] == [one.code for one in found]
    assert (400, "close") == (found[0].status, found[0].headers.get("connection", "close").lower())
    for secret in (b"CANARY", KEY.encode()):
        assert secret not in raw
        assert secret not in repr(server.log_entries).encode()
    assert b"ython" not in raw
    assert b"aiohttp" not in raw


@pytest.mark.parametrize("bad", ["two lengths", "NUL in a key", "a Host with a path", "HTTP/2.0"])
async def test_what_is_not_http_is_counted_and_logged(server: ServerHarness, bad: str) -> None:
    """R91, R92: one log entry and one count, as for every request."""
    await server.send_raw(MALFORMED[bad])
    [line] = server.log_entries
    assert ("request", "malformed", 400, "malformed_request") == tuple(
        line[name] for name in ("event", "route", "status", "code")
    )
    assert b'runward_requests_total{route="malformed",status="400"} 1.0' in server.metrics.render()


@pytest.mark.parametrize(
    "data",
    [
        build_post(LENGTH, b"X_Under-Score: 1\r\n") + BODY,
        build_post(LENGTH, b"X-Raw: \x80\xff\r\n") + BODY,
        build_post(LENGTH, host=b"Host: [::1]:8080\r\n") + BODY,
        build_post(LENGTH, host=b"host: a.b-c_d:1\r\n") + BODY,
        build_post(LENGTH, line=b"POST http://elsewhere/run?x=1 HTTP/1.1\r\n") + BODY,
        build_post(b"transfer-encoding: CHUNKED\r\n") + b"10\r\n" + BODY + b"\r\n0\r\n\r\n",
        build_post(LENGTH, b"Connection: Upgrade\r\nUpgrade: h2c\r\n") + BODY,
    ],
    ids=["underscore", "raw bytes", "IPv6 host", "host", "absolute form", "chunked", "upgrade to h2c"],
)
async def test_unusual_http_is_http(server: ServerHarness, data: bytes) -> None:
    """Valid requests, or fields for other recipients, without an effect."""
    [ran, alive] = parse_responses(await server.send_raw(data, build_request("GET", "/healthz")))
    assert (200, 200) == (ran.status, alive.status)


async def test_requests_in_a_row_are_answered_in_order(server: ServerHarness) -> None:
    """HTTP pipelining."""
    first, second = build_run_request(b'{"workflow":"1"}'), build_run_request(b'{"workflow":"2"}')
    raw = await server.send_raw(first.replace(b"Connection: close\r\n", b"") + second)
    assert ["1", "2"] == [one.json["workflow"] for one in parse_responses(raw)]


@pytest.mark.parametrize(
    "path", ["/", "/runs", "/run/", "//run", "/RUN", "/%72un", "/run%2f", "/run;x", "/./run", "/a/../run", "/run%00"]
)
async def test_other_paths_are_unknown(server: ServerHarness, path: str) -> None:
    """R72: paths are compared as sent, without decoding or resolving."""
    found = await server.send_request("POST", path)
    assert (404, "unknown_route") == (found.status, found.code)


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
async def test_other_methods_are_refused_with_those_that_there_are(server: ServerHarness, method: str) -> None:
    """R72: 405 with Allow, with or without a key."""
    found = await server.send_request(method, "/run")
    assert (405, "method_not_allowed", "POST") == (found.status, found.code, found.headers["allow"])


async def test_a_method_is_upper_case(server: ServerHarness) -> None:
    """RFC 9110, 9.1: methods are case-sensitive."""
    assert (await server.send_request("get", "/healthz")).status in {400, 405}


@pytest.mark.parametrize(("path", "status"), [("/healthz", 200), ("/run", 405), ("/nothing", 404)])
async def test_head_is_get_without_the_body(server: ServerHarness, path: str, status: int) -> None:
    """RFC 9110, 9.3.2; errors have no body either."""
    raw = await server.send_raw(build_request("HEAD", path))
    head, _, body = raw.partition(b"\r\n\r\n")
    assert (f"HTTP/1.1 {status} ".encode(), b"") == (head[: len("HTTP/1.1 200 ")], body)


async def test_a_connect_makes_no_tunnel(server: ServerHarness) -> None:
    """RFC 9110, 9.3.6: after a refusal, the following bytes are an ordinary request."""
    [refused, alive] = parse_responses(
        await server.send_raw(b"CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n", build_request("GET", "/healthz"))
    )
    assert ("unknown_route", {"status": "alive"}) == (refused.code, alive.json)


@pytest.mark.parametrize(
    "data",
    [
        build_run_request(BODY),
        build_run_request(b"{}"),
        build_request("GET", "/healthz"),
        build_request("GET", "/nothing"),
        build_request("GET", "/mistake"),
        build_request("POST", "/run"),
        b"garbage\r\n\r\n",
    ],
    ids=["200", "422", "health", "404", "500", "401", "400"],
)
async def test_no_response_discloses_a_software_version(server: ServerHarness, data: bytes) -> None:
    """R71, R83: in any response."""
    [found] = parse_responses(await server.send_raw(data))
    assert "runward" == found.headers["server"]
    assert "ython" not in str(found.headers)
    assert "x-request-id" in found.headers


async def test_an_error_in_a_middleware_is_a_problem() -> None:
    """A problem `internal` without the message of the exception."""

    def broken(_inner: Handler) -> Handler:
        async def handle(_request: Request) -> NoReturn:
            raise RuntimeError("CANARY")

        return handle

    async with running_server(middlewares=[broken]) as server:
        raw = await server.send_raw(build_request("GET", "/healthz"))
        [found] = parse_responses(raw)
    assert (500, "internal", "runward") == (found.status, found.code, found.headers["server"])
    assert b"CANARY" not in raw


@pytest.mark.parametrize("said", [b"", b"POST /run HTTP/1.1\r\nHost: a\r\nX-Half"], ids=["nothing", "half a header"])
async def test_a_silent_client_is_closed_by_the_header_timeout(said: bytes) -> None:
    """R63: by the header timer."""
    async with running_server(header_timeout=0.05) as server:
        assert b"" == await server.send_raw(said)


async def test_an_idle_keep_alive_connection_is_closed() -> None:
    """After the idle timeout."""
    async with running_server(header_timeout=5.0, idle_timeout=0.05) as server:
        [found] = parse_responses(await server.send_raw(SECOND))
    assert 200 == found.status


async def test_an_idle_connection_outlives_the_header_timeout() -> None:
    """A load balancer reuses idle connections for a minute and more: each closed one is a 502 of the balancer."""
    async with running_server(header_timeout=0.05) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        for _ in range(2):
            writer.write(SECOND)
            assert (await reader.read(4096)).startswith(b"HTTP/1.1 200 OK\r\n")
            await asyncio.sleep(0.2)
        assert not reader.at_eof()
        writer.close()


@pytest.mark.parametrize("drips", [False, True], ids=["part", "byte by byte"])
async def test_the_headers_of_a_later_request_have_the_header_timeout(drips: bool) -> None:  # noqa: FBT001 - a value
    """R63: from their first byte; further bytes do not extend it. The idle timeout is longer than this test."""
    async with running_server(header_timeout=0.3) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(SECOND)
        assert (await reader.read(4096)).startswith(b"HTTP/1.1 200 OK\r\n")
        writer.write(b"POST /run HTTP/1.1\r\nX-A: ")
        sent = 0
        closed = asyncio.create_task(reader.read())
        while not closed.done() and sent < MAX_DRIPS:
            await asyncio.sleep(0.05)
            writer.write(b"a" * drips)
            sent += 1
        assert sent < MAX_DRIPS
        with contextlib.suppress(ConnectionError):
            await closed
        writer.close()


async def test_a_client_that_does_not_read_its_response_is_closed() -> None:
    """A response that is not read would occupy memory and a connection indefinitely; others are served meanwhile."""
    async with running_server(header_timeout=0.05) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port, limit=1)
        writer.write(build_request("GET", "/large"))
        for _ in range(30):
            await asyncio.sleep(0.02)
            assert 200 == (await server.send_request()).status
        size = 0
        with contextlib.suppress(ConnectionResetError):
            while chunk := await reader.read(LARGE_BODY_BYTES):
                size += len(chunk)
        assert size < LARGE_BODY_BYTES
        writer.close()


async def test_a_client_that_reads_slowly_gets_its_whole_response() -> None:
    """The write timeout counts from the last progress, even if the buffer of the response never becomes empty."""
    timeout = 0.4
    async with running_server(header_timeout=timeout) as server:
        connection = socket.socket()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 100_000)
        connection.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(connection, ("127.0.0.1", server.port))
        with connection:
            await loop.sock_sendall(connection, build_request("GET", "/large"))
            size, began = 0, loop.time()
            while chunk := await loop.sock_recv(connection, LARGE_BODY_BYTES // 40):
                size += len(chunk)
                await asyncio.sleep(timeout / 8)
        assert size > LARGE_BODY_BYTES
        assert loop.time() - began > 2 * timeout, "the response took longer than the timeout"


async def test_pipelined_requests_wait_until_the_client_reads_the_answers() -> None:
    """Without this, the answers to 18 MB of requests would occupy 400 MB; afterwards every request is answered."""
    count, size = 2000, 60_000
    handled = 0

    async def answer(_request: Request) -> Response:
        nonlocal handled
        handled += 1
        return make_response(200, b"x" * size, "text/plain")

    server = Server([Route("GET", "/", answer, "answer")], (), header_timeout=30.0)
    listener = await Listener.open(server, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*listener.addresses[0], limit=1)
    try:
        writer.write(count * b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        before = -1
        while before < handled or not handled:
            before = handled
            await asyncio.sleep(0.2)
        assert handled < count / 2, "the buffers of the kernel hold some answers"
        async with asyncio.timeout(30):
            while handled < count:
                await reader.read(1_000_000)
    finally:
        writer.transport.abort()
        await listener.close()


async def test_reading_is_paused_while_requests_of_the_connection_wait() -> None:
    """What is read ahead of a connection is bounded, also while its first request takes long."""
    connection = Server([], [], header_timeout=5.0).aiohttp_connection()
    transport = Mock(spec=asyncio.Transport, is_closing=lambda: False)
    connection.connection_made(transport)
    connection.data_received(1000 * SECOND)
    assert transport.pause_reading.called
    assert 1 <= len(connection._messages) <= MAX_WAITING_REQUESTS
    connection.connection_lost(None)


async def test_what_comes_behind_a_refused_request_is_dropped() -> None:
    """R70: data after a refused request are neither stored nor parsed."""
    connection = Server([], [], header_timeout=5.0).aiohttp_connection()
    connection.connection_made(Mock(spec=asyncio.Transport, is_closing=lambda: False))
    for _ in range(50):
        connection.data_received(b"x" * 100_000)
    assert 1 == len(connection._messages)  # each would hold its bytes
    connection.connection_lost(None)


@pytest.mark.parametrize("connection", ["close", "Close", "CLOSE, x", "x, close", "x ,\tclose", ["x", "close"]])
async def test_the_connection_field_is_a_list_without_regard_to_case(
    server: ServerHarness, connection: str | list[str]
) -> None:
    """RFC 9110, 7.6.1: `close` anywhere in the list ends the connection after the response."""
    lines = [connection] if isinstance(connection, str) else connection
    fields = "".join(f"Connection: {line}\r\n" for line in lines)
    head = build_request("GET", "/healthz").replace(b"Connection: close\r\n", fields.encode())
    raw = await server.send_raw(head)
    assert [200] == [found.status for found in parse_responses(raw)]
    assert b"\r\nconnection: close\r\n" in raw.lower()


async def test_a_connection_without_close_serves_the_next_request(server: ServerHarness) -> None:
    """Neither `keep-alive` nor an unknown option closes it."""
    first = build_request("GET", "/healthz").replace(b"Connection: close", b"Connection: closed, Keep-Alive")
    raw = await server.send_raw(first, build_request("GET", "/healthz"))
    assert [200, 200] == [found.status for found in parse_responses(raw)]


@pytest.mark.parametrize(
    "data",
    [
        build_request("GET", "/healthz", "X-Long: " + "CANARY" * 3000),
        build_request("GET", "/healthz", "CANARY" * 3000 + ": a"),
        build_request("GET", "/healthz?" + "CANARY" * 3000),
        build_request("GET", "/healthz", *[f"X-{number}: a" for number in range(200)]),
        b"GET /healthz HTTP/1.1\r\nX-Endless: " + b"CANARY" * 3000,
    ],
    ids=["value", "name", "target", "number", "without an end"],
)
async def test_a_header_that_is_too_large_is_a_431_with_the_limit(server: ServerHarness, data: bytes) -> None:
    """RFC 6585: the client learns what is too large, and the connection ends."""
    raw = await server.send_raw(data + SECOND)
    assert b"CANARY" not in raw + repr(server.log_entries).encode()
    [found] = parse_responses(raw)
    assert (431, "header_too_large", "close") == (found.status, found.code, found.headers["connection"].lower())
    assert "8190 bytes" in found.json["detail"]
    [line] = server.log_entries
    assert (431, "header_too_large") == (line["status"], line["code"])


async def test_the_size_of_a_header_can_be_set() -> None:
    """Single sign-on proxies send large fields."""
    async with running_server(max_header=30_000) as server:
        accepted = await server.send_request("GET", "/healthz", "X-Long: " + "a" * 29_000)
        refused = await server.send_request("GET", "/healthz", "X-Long: " + "a" * 31_000)
    assert (200, 431) == (accepted.status, refused.status)
    assert "30000 bytes" in refused.json["detail"]
