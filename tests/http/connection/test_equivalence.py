"""Both kinds of connection give the same responses to the same bytes, whatever they are and however they are cut.

The usual one does so twice: the second time, the server has kept the heads of the requests.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Sequence
from itertools import pairwise

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st
from multidict import MultiMapping

from gateway.http.body import read_raw_body
from gateway.http.pipeline import RequestPipeline
from gateway.http.request import Request, Route
from gateway.http.response import Response, make_response
from gateway.http.server import Server
from gateway.observability.json_logging import configure
from gateway.observability.metrics import Metrics
from tests.support.clock import ManualClock

_VARYING = re.compile(rb"(?im)^(date|x-request-id): .*\r\n|req_[0-9a-f]+|\"request_id\":\"[^\"]*\"")


class MemoryTransport(asyncio.Transport):
    """Transport that collects what is written, and knows its protocol."""

    def __init__(self) -> None:
        super().__init__({"peername": ("127.0.0.1", 1)})
        self.protocol: asyncio.BaseProtocol | None = None
        self.written = b""
        self.closing = False

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self.protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        assert self.protocol is not None
        return self.protocol

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if not self.closing:
            self.written += bytes(data)

    def is_closing(self) -> bool:
        return self.closing

    def close(self) -> None:
        self.closing = True

    abort = close

    def is_reading(self) -> bool:
        return True

    def pause_reading(self) -> None:
        """Do nothing."""

    resume_reading = pause_reading

    def get_write_buffer_size(self) -> int:
        return 0


async def echo(request: Request) -> Response:
    """Return what the handler sees of a request."""
    body = await read_raw_body(request, max_bytes=1000, timeout=5)
    seen = {
        "method": request.method,
        "path": request.target_path,
        "query": sorted(request.query.items()),
        "headers": sorted((name.lower(), value) for name, value in request.headers.items()),
        "body": body.decode("latin-1"),
        "id": request.path_param,
    }
    return make_response(200, json.dumps(seen).encode(), "application/json")


def accept(request: Request) -> None:
    request.client_name = "one"


def new_server() -> Server:
    pipeline = RequestPipeline(Metrics(), configure("error", "json", ManualClock()), ManualClock(), accept)
    routes = [
        Route("POST", "/run", echo, "run", requires_key=True),
        Route("GET", "/runs/{id}", echo, "runs", requires_key=True),
        Route("POST", "/stream", echo, "stream", streams=has_accept),
    ]
    return Server(routes, [pipeline], header_timeout=30)


def has_accept(headers: MultiMapping[str]) -> bool:
    return "Accept" in headers


async def responses_of(
    connection: Callable[[Server], asyncio.Protocol], parts: Sequence[bytes], server: Server | None = None
) -> tuple[bytes, bool]:
    """Return what a connection writes, without what differs between two requests, and whether it closes."""
    server, transport = server or new_server(), MemoryTransport()
    protocol = connection(server)
    transport.set_protocol(protocol)
    protocol.connection_made(transport)
    for part in parts:
        if not transport.closing:
            current = transport.get_protocol()
            assert isinstance(current, asyncio.Protocol)
            current.data_received(part)
        for _ in range(4):
            await asyncio.sleep(0)
    for _ in range(30):
        await asyncio.sleep(0)
    if not transport.closing:
        await asyncio.sleep(0.08)  # a body that does not follow is handed over
        for _ in range(30):
            await asyncio.sleep(0)
    written, closing = transport.written, transport.closing
    last = transport.get_protocol()
    assert isinstance(last, asyncio.Protocol)
    last.connection_lost(None)
    await server.shutdown(0)
    return _VARYING.sub(b"", written), closing


def normalized(written: bytes) -> list[tuple[bytes, frozenset[bytes], bytes]]:
    """Split responses into status line, header fields in any order, and body."""
    responses = []
    while written:
        head, separator, rest = written.partition(b"\r\n\r\n")
        lines = head.split(b"\r\n")
        length = next((int(line[15:]) for line in lines if line.lower().startswith(b"content-length:")), 0)
        responses.append(
            (lines[0], frozenset(line.lower() for line in lines[1:]), rest[:length] if separator else rest)
        )
        written = rest[length:]
    return responses


async def compare(parts: Sequence[bytes]) -> None:
    server = new_server()
    usual = await responses_of(lambda server: server(), parts, server)
    again = await responses_of(lambda server: server(), parts, server)
    aiohttp = await responses_of(lambda server: server.aiohttp_connection(), parts)
    assert (normalized(aiohttp[0]), aiohttp[1]) == (normalized(usual[0]), usual[1])
    assert (normalized(aiohttp[0]), aiohttp[1]) == (normalized(again[0]), again[1])


LINES = st.sampled_from(
    [
        b"POST /run HTTP/1.1",
        b"POST /run?a=1&b=%20 HTTP/1.1",
        b"GET /runs/run_1 HTTP/1.1",
        b"HEAD /runs/run_1 HTTP/1.1",
        b"DELETE /run HTTP/1.1",
        b"POST /stream HTTP/1.1",
        b"POST /nowhere HTTP/1.1",
        b"POST http://h/run HTTP/1.1",
        b"POST /run#f HTTP/1.1",
        b"POST /run HTTP/1.0",
        b"POST /run HTTP/2.0",
        b"POST  /run HTTP/1.1",
        b"post /run HTTP/1.1",
        b"OPTIONS * HTTP/1.1",
        b"CONNECT h:1 HTTP/1.1",
        "POST /r\u00fcn HTTP/1.1".encode(),
    ]
)
FIELDS = st.sampled_from(
    [
        b"Host: h",
        b"Host: a b",
        b"Host:",
        b"Accept: */*",
        b"Connection: close",
        b"Connection: keep-alive",
        b"Connection: x, close",
        b"Content-Type: application/json",
        b"Content-Length: 2",
        b"Content-Length: +2",
        b"Content-Length: 2, 2",
        b"Content-Length: 0x2",
        b"Content-Length: 2000",
        b"Content-Length: 99999999999999999999",
        b"Transfer-Encoding: chunked",
        b"Transfer-Encoding: gzip, chunked",
        b"Transfer-Encoding : chunked",
        b"Expect: 100-continue",
        b"Upgrade: websocket",
        b"X-Request-Id: mine",
        b"X-A: b\t ",
        b"X-A: \xff",
        b"X-A: a\x00b",
        b"X-A: a\rb",
        b" folded: yes",
        b"No-Colon",
        b": empty",
        b"X-Long: " + b"x" * 9000,
        "X-\u00fc: 1".encode(),
    ]
)
BODIES = st.sampled_from(
    [b"", b"{}", b"{", b"{}{}", b"2\r\n{}\r\n0\r\n\r\n", b"2\n{}\r\n0\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n"]
)
ENDS = st.sampled_from([b"\r\n", b"\r\n", b"\r\n", b"\n"])


@st.composite
def messages(draw: st.DrawFn) -> bytes:
    """Draw a request, in most cases with a host and a length."""
    fields = draw(st.lists(FIELDS, max_size=4))
    if draw(st.integers(0, 4)):
        fields = [b"Host: h", *fields]
    body = draw(BODIES)
    if draw(st.integers(0, 2)):
        fields.append(b"Content-Length: %d" % len(body))
    end = draw(ENDS)
    return draw(LINES) + end + b"".join(field + end for field in fields) + end + body


@given(requests=st.lists(messages(), min_size=1, max_size=3), data=st.data())
async def test_any_bytes_in_any_parts_are_answered_alike(requests: list[bytes], data: st.DataObject) -> None:
    """R70: the usual connection accepts nothing that aiohttp's refuses, and reads nothing differently."""
    raw = b"".join(requests)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=3)))
    parts = [raw[start:end] for start, end in zip([0, *cuts], [*cuts, len(raw)], strict=True)]
    await compare([part for part in parts if part])


REQUEST = b"POST /run?q=1 HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n{}"


@pytest.mark.parametrize("cut", range(len(REQUEST) + 1))
async def test_a_request_that_is_cut_anywhere_is_answered(cut: int) -> None:
    await compare([part for part in (REQUEST[:cut], REQUEST[cut:] + REQUEST) if part])


@pytest.mark.parametrize("between", [b"\r", b"\n", b"\r\n", b"\r\n\r\n", b" ", b"\0", b"x"])
async def test_bytes_between_two_requests_are_read_alike(between: bytes) -> None:
    """The second request is not parsed once its head is known, whatever the parser has read before it."""
    await compare([REQUEST, between + REQUEST])
    await compare([REQUEST, between, REQUEST])
    await compare([REQUEST, REQUEST + between, REQUEST])


@pytest.mark.parametrize("body", [b"", b"{", b"{}}", b"{}\r\n", b"{}GET /runs/run_1 HTTP/1.1\r\nHost: h\r\n\r\n"])
async def test_a_body_of_another_size_than_announced_is_read_alike(body: bytes) -> None:
    """R70: what follows the announced size is the next request, also if the head is known."""
    other_size = REQUEST[:-2] + body
    await compare([REQUEST, other_size])
    await compare([REQUEST, other_size, REQUEST])
    await compare([REQUEST, REQUEST + other_size])


CHUNKED = b"POST /run HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
TOO_LARGE = b"POST /run HTTP/1.1\r\nHost: h\r\nContent-Length: 2000\r\n\r\n"


@pytest.mark.parametrize("cut", [1, len(TOO_LARGE), len(TOO_LARGE) + 1])
async def test_a_refused_body_that_malformed_data_follows_is_answered_alike(cut: int) -> None:
    raw = TOO_LARGE + b"x" * 2900
    await compare([raw[:cut], raw[cut:]])


async def test_a_malformed_body_fails_even_before_its_request_is_handled() -> None:
    """Else the handler would wait for the body until the timeout."""
    server, transport = new_server(), MemoryTransport()
    connection = server.aiohttp_connection()
    transport.set_protocol(connection)
    connection.connection_made(transport)
    connection.data_received(CHUNKED)
    connection.data_received(b"zz\r\n")
    for _ in range(30):
        await asyncio.sleep(0)
    assert transport.written.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    connection.connection_lost(None)
    await server.shutdown(0)


UNKNOWN = REQUEST.replace(b"/run", b"/nowhere")


@pytest.mark.parametrize("pipelined", [30, 31, 32, 33, 100])
async def test_all_requests_that_follow_a_body_in_parts_are_answered(pipelined: int) -> None:
    """The parser of aiohttp would stop at the 31st: it counts the first one, which was handled before its end."""
    parts = [REQUEST[:-1], b"}" + UNKNOWN * pipelined]
    written, _ = await responses_of(lambda server: server.aiohttp_connection(), parts)
    assert (1, pipelined) == (written.count(b"HTTP/1.1 200 "), written.count(b"HTTP/1.1 404 "))


async def test_pipelined_requests_leave_time_for_other_connections() -> None:
    """Python 3.12 and later would answer them all in one iteration of the event loop."""
    server, transport = new_server(), MemoryTransport()
    connection = server.aiohttp_connection()
    transport.set_protocol(connection)
    connection.connection_made(transport)
    connection.data_received(UNKNOWN * 20)
    answered: list[int] = []
    while not answered or answered[-1] < 20:
        await asyncio.sleep(0)
        answered.append(transport.written.count(b"HTTP/1.1 404 "))
    assert max(after - before for before, after in pairwise([0, *answered])) <= 2
    connection.connection_lost(None)
    await server.shutdown(0)


async def test_a_usual_request_stays_on_the_usual_connection() -> None:
    """Else nothing is compared."""
    server, transport = new_server(), MemoryTransport()
    connection = server()
    transport.set_protocol(connection)
    connection.connection_made(transport)
    for part in (REQUEST, REQUEST[:-1], REQUEST[-1:], b"GET /runs/run_1 HTTP/1.1\r\nHost: h\r\n\r\n"):
        connection.data_received(part)
        await asyncio.sleep(0.01)
    assert (3, connection) == (transport.written.count(b"HTTP/1.1 200 OK"), transport.get_protocol())
    connection.data_received(CHUNKED + b"2\r\n{}\r\n0\r\n\r\n")
    await asyncio.sleep(0.01)
    assert 4 == transport.written.count(b"HTTP/1.1 200 OK")
    taken_over = transport.get_protocol()
    assert isinstance(taken_over, web.RequestHandler)
    taken_over.connection_lost(None)
    await server.shutdown(0)


@pytest.mark.parametrize("mistake", ["a line\r\nbreak", None])
async def test_a_response_that_cannot_be_written_is_a_500_without_details(mistake: str | None) -> None:
    """A header with a line break, and an error of the middlewares themselves: the connection ends."""
    asyncio.get_running_loop().set_exception_handler(lambda *_: None)
    server, transport = new_server(), MemoryTransport()

    async def handle(_request: Request) -> Response:
        if mistake is None:
            raise RuntimeError("CANARY")
        return make_response(200, b"CANARY", "text/plain", (("X-A", mistake),))

    server.handler = handle
    connection = server()
    transport.set_protocol(connection)
    connection.connection_made(transport)
    connection.data_received(REQUEST)
    await asyncio.sleep(0.01)
    assert transport.written.startswith(b"HTTP/1.1 500 ")
    assert (True, False) == (transport.closing, b"CANARY" in transport.written)
    connection.connection_lost(None)
