"""HTTP/1.1 connection of a client, for requests of the usual form; aiohttp's connection continues with any other.

The parser is llhttp (of Node.js, through httptools), as in aiohttp. A request is of the usual form if it has arrived as
a whole, is small, and its route answers with a `Response`: no transfer coding, no `Expect`, no upgrade. Any other
request, and everything that the parser rejects, is handed over with its bytes to an `AiohttpConnection`, which keeps
the connection. So there is one implementation of each rule of framing; to receive a usual request and to write its
response takes a fifth of the time that aiohttp's connection takes.
"""

from __future__ import annotations

import asyncio
import math
from typing import Protocol, cast

import httptools
from aiohttp import web
from aiohttp.tcp_helpers import tcp_keepalive
from multidict import CIMultiDict

from gateway.byte_budget import ByteBudget, Hold, current_hold
from gateway.http.connection.idle_sweep import IdleSweep
from gateway.http.connection.write_timeout import WriteTimeout
from gateway.http.request import CompleteRequest, Handler, is_valid_host, never
from gateway.http.response import BODILESS, MAX_SINGLE_WRITE, Response
from gateway.http.router import Router
from gateway.problems import CONTENT_TYPE, Problem
from gateway.write_batch import WriteBatch

_MAX_REQUEST = 65_536  # bytes of a request that is collected here
_MAX_FIELDS = 64
_BODY_SECONDS = 0.05  # wait for the rest of a body, which follows at once in most cases, before it is handed over
_MAX_BATCHED = 16_384  # bytes of the body of a response that is written with those of other connections
_UNUSUAL_FIELDS = frozenset({b"transfer-encoding", b"expect", b"upgrade", b"sec-websocket-key1"})
_METHODS = {b"GET": "GET", b"POST": "POST"}


class ConnectionServer(Protocol):
    """The server of a connection. `max_usual_head`: bytes of the request line and header fields of a usual request."""

    byte_budget: ByteBudget
    handler: Handler
    header_timeout: float
    http1_connections: IdleSweep[Http1Connection]
    idle_timeout: float
    max_usual_head: int
    router: Router
    write_batch: WriteBatch

    def aiohttp_connection(self) -> web.RequestHandler:
        """Protocol of a connection with a request that is not of the usual form."""


class Http1Connection(asyncio.Protocol):
    """One connection, with one request at a time.

    Timeouts: `header_timeout` seconds for the headers of the first request from the accept (with TLS from the end of
    the handshake), and between two moments at which the client reads of its response; `idle_timeout` seconds without a
    request. The server closes the connection after `closes_at` (time of the event loop, in seconds) unless a request is
    in progress.
    """

    __slots__ = (
        "_body",
        "_body_timer",
        "_closing",
        "_complete",
        "_drained",
        "_fields",
        "_keep_alive",
        "_loop",
        "_lost",
        "_method",
        "_parser",
        "_pipelined",
        "_raw",
        "_raw_size",
        "_server",
        "_transport",
        "_unsent",
        "_unusual",
        "_url",
        "_write_timeout",
        "closes_at",
        "task",
    )

    def __init__(self, server: ConnectionServer) -> None:
        self._server = server
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._parser: httptools.HttpRequestParser | None = httptools.HttpRequestParser(self)
        self._body_timer: asyncio.TimerHandle | None = None
        self.closes_at = math.inf
        self._closing = False
        self._pipelined = b""
        self._unsent = b""
        self._drained: asyncio.Future[None] | None = None
        self._write_timeout: WriteTimeout | None = None
        self._lost: asyncio.Future[None] | None = None
        self.task: asyncio.Task[None] | None = None
        self._reset()

    def _reset(self) -> None:
        self._raw: list[bytes] = []
        self._raw_size = 0
        self._url = self._method = b""
        self._fields: list[tuple[bytes, bytes]] = []
        self._body: list[bytes] = []
        self._complete = self._unusual = self._keep_alive = False

    def close_when_idle(self) -> asyncio.Future[None]:
        """Close the connection now or after the response in progress, once everything is written.

        Returns a future that ends with the connection.
        """
        self._closing = True
        if self._lost is None:
            self._lost = self._loop.create_future()
        if self.task is None:
            self._close()
        return self._lost

    def _close(self) -> None:
        """Close the connection once everything is written, if the client reads it within the header timeout."""
        transport = self._transport
        if transport is None:
            return
        self.write_pending()
        if self._write_timeout is None and transport.get_write_buffer_size() > 0:
            self._write_timeout = WriteTimeout(transport, self._server.header_timeout)
        transport.close()

    def abort(self) -> None:
        """Close the connection at once; a request in progress is cancelled."""
        if self.task is not None:
            self.task.cancel()
        if self._transport is not None:
            self._transport.abort()

    # Callbacks of asyncio.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Set the header timeout."""
        self._transport = cast("asyncio.Transport", transport)  # the transport of uvloop is no subclass
        tcp_keepalive(self._transport)
        self.closes_at = self._loop.time() + self._server.header_timeout
        self._server.http1_connections.add(self)

    def data_received(self, data: bytes) -> None:
        """Parse a part of a request, and handle it once it is complete."""
        if self.task is not None:  # it was sent before the response of the one before
            self._pipelined += data
            if self._transport is not None:
                self._transport.pause_reading()
            return
        parser = self._parser
        if parser is None:
            return
        self._raw.append(data)
        self._raw_size += len(data)
        try:
            parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._unusual = True
        if self._complete and not self._unusual:
            self._handle()
        elif self._unusual or not self._awaits_small_body():
            self._hand_over()
        elif len(self._raw) == 1:
            self._stop_body_timer()
            self._body_timer = self._loop.call_later(_BODY_SECONDS, self._on_body_timeout)

    def eof_received(self) -> None:
        """Close the connection; a request that is not complete is handed over before."""
        if self._raw:
            self._hand_over()

    def pause_writing(self) -> None:
        """Make the response wait, and start the write timeout."""
        if self._transport is not None:
            self._drained = self._loop.create_future()
            self._write_timeout = WriteTimeout(self._transport, self._server.header_timeout)

    def resume_writing(self) -> None:
        """Continue with the response."""
        if self._write_timeout is not None:
            self._write_timeout.cancel()
            self._write_timeout = None
        if self._drained is not None:
            if not self._drained.done():
                self._drained.set_result(None)
            self._drained = None

    def connection_lost(self, exc: Exception | None) -> None:
        """Free everything; a request in progress continues."""
        if self._raw:
            connection = self._hand_over()
            self._loop.call_soon(connection.connection_lost, exc)  # once it has begun with the request, to be logged
        self._server.http1_connections.discard(self)
        self._stop_body_timer()
        self.resume_writing()
        if self._lost is not None and not self._lost.done():
            self._lost.set_result(None)
        self._transport = self._parser = None  # the parser refers to the connection

    def _awaits_small_body(self) -> bool:
        """Return whether the rest of the body is all that is missing, and the client sends it without being asked."""
        fields = {name.lower(): value for name, value in self._fields}
        length = fields.get(b"content-length", b"")
        return (
            b"\r\n\r\n" in self._raw[0]
            and b"expect" not in fields
            and 0 < len(length) <= len(str(_MAX_REQUEST))
            and int(length) <= _MAX_REQUEST
            and self._raw_size <= _MAX_REQUEST
        )

    def _handle(self) -> None:
        """Handle a complete request in a task, or hand it over."""
        request = self._read_request()
        if request is None:
            self._hand_over()
            return
        self._reset()
        request.hold = Hold(self._server.byte_budget)
        self.task = request.serving_task = self._loop.create_task(self._serve(request))

    def _read_request(self) -> CompleteRequest | None:
        """Return the request; None if it is not of the usual form."""
        parser, fields, transport = self._parser, self._fields, self._transport
        body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        names, headers = set(), CIMultiDict[str]()
        for name, value in fields:
            names.add(name.lower())
            headers.add(
                name.decode("utf-8", "surrogateescape"), value.rstrip(b" \t").decode("utf-8", "surrogateescape")
            )
        method = _METHODS.get(self._method)
        if (
            transport is None
            or parser is None
            or method is None
            or len(names) != len(fields)  # repeated fields: aiohttp knows which may be
            or len(fields) > _MAX_FIELDS
            or b"host" not in names
            or not names.isdisjoint(_UNUSUAL_FIELDS)
            or self._raw_size - len(body) > self._server.max_usual_head
            or not self._url.isascii()
            or b"#" in self._url
            or self._url[:1] != b"/"
            or parser.get_http_version() != "1.1"
        ):
            return None
        path, _, query = self._url.decode().partition("?")
        request = CompleteRequest(method, (path, query), headers, body, transport)
        route = request.route = self._server.router.find(request)
        if (route.streams is not never and route.streams(headers)) or not is_valid_host(headers["Host"]):
            return None
        self._closing = self._closing or not self._keep_alive
        return request

    def _hand_over(self) -> web.RequestHandler:
        """Continue as a connection of aiohttp, which begins with the request in progress."""
        transport, parts = cast("asyncio.Transport", self._transport), self._raw
        self.write_pending()
        self._stop_body_timer()
        self._server.http1_connections.discard(self)
        if self._lost is not None and not self._lost.done():
            self._lost.set_result(None)  # the server closes the other connection
        self._transport = self._parser = None
        self._reset()
        connection = self._server.aiohttp_connection()
        transport.set_protocol(connection)
        connection.connection_made(transport)
        if self._closing:
            connection.close()
        for part in parts:  # not joined: it makes a difference to what aiohttp responds if a later one is malformed
            connection.data_received(part)
        return connection

    async def _serve(self, request: CompleteRequest) -> None:
        hold = request.hold
        current_hold.set(hold)
        try:
            try:
                response = await self._server.handler(request)
                if not isinstance(response, Response):
                    raise TypeError("a route that does not stream has returned a stream")
                head = self._encode_head(response)
            except Exception as error:  # noqa: BLE001  # the middlewares themselves failed
                self._loop.call_exception_handler({"message": "a request was not handled", "exception": error})
                problem = Problem("internal")
                response = Response(problem.status, problem.document(""), CONTENT_TYPE)
                response.closes = True
                head = self._encode_head(response)
            await self._send(head, response)
        finally:
            if hold is not None:
                hold.release()
            self._end_request()

    def _encode_head(self, response: Response) -> bytes:
        if self._closing or response.closes:
            self._closing = True
            response.headers["Connection"] = "close"
        return response.head()

    async def _send(self, head: bytes, response: Response) -> None:
        """Write the response, a large body in pieces, each once the client has read most of the one before.

        A small response is written with those of other connections. `on_sent` is called once it was written; then the
        response waits while too much is unread.
        """
        transport = self._transport
        if transport is None or transport.is_closing() or (self._drained is not None and not await self._drain()):
            return
        body = b"" if response.status in BODILESS else response.body
        if len(body) <= _MAX_BATCHED and response.on_sent is None:
            self._unsent += head + body
            self._server.write_batch.add(self)
            return
        self.write_pending()
        if len(body) <= MAX_SINGLE_WRITE:
            transport.write(head + body)
        else:
            transport.write(head)
            view = memoryview(body)
            for start in range(0, len(body), MAX_SINGLE_WRITE):
                transport.write(view[start : start + MAX_SINGLE_WRITE])
                if not await self._drain():
                    return
        if response.on_sent is not None:
            response.on_sent()
        if self._drained is not None:
            await self._drain()

    def write_pending(self) -> None:
        """Write the response that waits to be written with others, if there is one."""
        response, self._unsent = self._unsent, b""
        if response and self._transport is not None and not self._transport.is_closing():
            self._transport.write(response)

    async def _drain(self) -> bool:
        """Wait while too much is unread. Returns whether the client is connected."""
        if self._drained is not None:
            await self._drained
        return self._transport is not None and not self._transport.is_closing()

    def _end_request(self) -> None:
        """Wait for the next request, or close the connection."""
        self.task = None
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        if self._closing:
            self._close()
            return
        self.closes_at = self._loop.time() + self._server.idle_timeout
        if self._pipelined:
            data, self._pipelined = self._pipelined, b""
            transport.resume_reading()
            self.data_received(data)

    def close_if_idle(self) -> None:
        """Close the connection if no request is in progress; one that is not complete is handed over."""
        if self.task is not None or self._transport is None:
            return
        if self._raw:
            self._hand_over()
        else:
            self._close()

    def _on_body_timeout(self) -> None:
        """Hand over a request whose body has not arrived."""
        self._body_timer = None
        if self.task is None and self._transport is not None and self._raw:
            self._hand_over()

    def _stop_body_timer(self) -> None:
        if self._body_timer is not None:
            self._body_timer.cancel()
            self._body_timer = None

    # Callbacks of the parser.

    def on_message_begin(self) -> None:
        """Hand over a second request in the same data, of which the parser has taken some bytes already."""
        self._unusual = self._unusual or self._complete

    def on_url(self, url: bytes) -> None:
        """Store a part of the request target."""
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Store a header field."""
        self._fields.append((name, value))

    def on_body(self, body: bytes) -> None:
        """Store a part of the body."""
        self._body.append(body)

    def on_message_complete(self) -> None:
        """Note the end of the request, its method, and whether another one may follow."""
        if self._parser is None or self._complete:
            return
        self._complete = True
        self._method = self._parser.get_method()
        self._keep_alive = self._parser.should_keep_alive()
