"""HTTP/1.1 connection of a client, for requests of the usual form; aiohttp's connection continues with any other.

Requests of the usual form are those that `UsualRequestParser` reads, and repetitions of their heads, as the `HeadCache`
keeps them. Any other request, and everything that the parser rejects, is handed over with its bytes to an
`AiohttpConnection`, which keeps the connection. So there is one implementation of each rule of framing; to receive a
usual request and to write its response takes a fifth of the time that aiohttp's connection takes.
"""

from __future__ import annotations

import asyncio
import math
from typing import Protocol, cast

from aiohttp import web
from aiohttp.tcp_helpers import tcp_keepalive

from gateway.byte_budget import ByteBudget, Hold, current_hold
from gateway.http.connection.head_cache import HeadCache
from gateway.http.connection.idle_sweep import IdleSweep
from gateway.http.connection.usual_request import UsualRequestParser
from gateway.http.connection.write_timeout import WriteTimeout
from gateway.http.request import CompleteRequest, Handler, RequestHead
from gateway.http.response import BODILESS, MAX_SINGLE_WRITE, Response
from gateway.http.router import Router
from gateway.problems import CONTENT_TYPE, Problem
from gateway.write_batch import WriteBatch

_BODY_SECONDS = 0.05  # wait for the rest of a body, which follows at once in most cases, before it is handed over
_MAX_BATCHED = 16_384  # bytes of the body of a response that is written with those of other connections


class ConnectionServer(Protocol):
    """The server of a connection. `max_usual_head`: bytes of the request line and header fields of a usual request."""

    byte_budget: ByteBudget
    handler: Handler
    head_cache: HeadCache
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
        "_body_timer",
        "_closing",
        "_drained",
        "_loop",
        "_lost",
        "_parser",
        "_pipelined",
        "_server",
        "_transport",
        "_unsent",
        "_write_timeout",
        "closes_at",
        "task",
    )

    def __init__(self, server: ConnectionServer) -> None:
        self._server = server
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._parser: UsualRequestParser | None = None  # None as long as all heads were in the cache
        self._body_timer: asyncio.TimerHandle | None = None
        self.closes_at = math.inf
        self._closing = False
        self._pipelined = b""
        self._unsent = b""
        self._drained: asyncio.Future[None] | None = None
        self._write_timeout: WriteTimeout | None = None
        self._lost: asyncio.Future[None] | None = None
        self.task: asyncio.Task[None] | None = None

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
        """Handle a request in a task once it is complete."""
        if self.task is not None:  # it was sent before the response of the one before
            self._pipelined += data
            if self._transport is not None:
                self._transport.pause_reading()
            return
        transport = self._transport
        if transport is None:
            return
        parser, found = self._parser, None
        if parser is None or not parser.parts:  # `data` begins with a request
            found = self._server.head_cache.find(data)
        if found is None:
            found = self._parse(data)
        if found is not None:
            head, body = found
            self._closing = self._closing or not head.keep_alive
            request = CompleteRequest(head, body, transport)
            request.hold = Hold(self._server.byte_budget)
            # With a name, which asyncio would otherwise format for each task.
            self.task = request.serving_task = asyncio.Task(self._serve(request), loop=self._loop, name="request")

    def _parse(self, data: bytes) -> tuple[RequestHead, bytes] | None:
        """Return head and body of a request once it is complete. One that is not of the usual form is handed over."""
        server, parser = self._server, self._parser
        if parser is None:
            parser = self._parser = UsualRequestParser(server.router, server.head_cache, server.max_usual_head)
        found = parser.feed(data)
        if parser.is_unusual:
            self._hand_over()
        elif len(parser.parts) == 1:
            self._stop_body_timer()
            self._body_timer = self._loop.call_later(_BODY_SECONDS, self._on_body_timeout)
        return found

    def _is_reading(self) -> bool:
        """Return whether a request has arrived in part."""
        return self._parser is not None and bool(self._parser.parts)

    def eof_received(self) -> None:
        """Close the connection; a request that is not complete is handed over before."""
        if self._is_reading():
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
        if self._is_reading():
            connection = self._hand_over()
            self._loop.call_soon(connection.connection_lost, exc)  # once it has begun with the request, to be logged
        self._server.http1_connections.discard(self)
        self._stop_body_timer()
        self.resume_writing()
        if self._lost is not None and not self._lost.done():
            self._lost.set_result(None)
        self._transport = None
        self._free_parser()

    def _hand_over(self) -> web.RequestHandler:
        """Continue as a connection of aiohttp, which begins with the request in progress."""
        self.write_pending()
        transport, parts = cast("asyncio.Transport", self._transport), self._free_parser()
        self._stop_body_timer()
        self._server.http1_connections.discard(self)
        if self._lost is not None and not self._lost.done():
            self._lost.set_result(None)  # the server closes the other connection
        self._transport = None
        connection = self._server.aiohttp_connection()
        transport.set_protocol(connection)
        connection.connection_made(transport)
        if self._closing:
            connection.close()
        for part in parts:  # not joined: it makes a difference to what aiohttp responds if a later one is malformed
            connection.data_received(part)
        return connection

    def _free_parser(self) -> list[bytes]:
        """Free the parser; returns what has arrived of a request that is not complete."""
        parser, self._parser = self._parser, None
        if parser is None:
            return []
        parser.close()
        return parser.parts

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
        if self._is_reading():
            self._hand_over()
        else:
            self._close()

    def _on_body_timeout(self) -> None:
        """Hand over a request whose body has not arrived."""
        self._body_timer = None
        if self.task is None and self._transport is not None and self._is_reading():
            self._hand_over()

    def _stop_body_timer(self) -> None:
        if self._body_timer is not None:
            self._body_timer.cancel()
            self._body_timer = None
