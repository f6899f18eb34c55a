"""HTTP connection of aiohttp: for bodies that are read in parts, streams, WebSockets, and malformed requests."""

from __future__ import annotations

import asyncio
import types
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, cast

from aiohttp import HttpVersion11, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http_exceptions import LineTooLong
from aiohttp.web_protocol import MAX_MSG_QUEUE_SIZE, _ErrInfo
from multidict import CIMultiDict

from gateway.byte_budget import ByteBudget, Hold, current_hold
from gateway.http.connection.write_timeout import WriteTimeout
from gateway.http.request import AiohttpRequest, AnyResponse, Request, Route
from gateway.http.response import BODILESS, MAX_SINGLE_WRITE, Response
from gateway.problems import CONTENT_TYPE, Problem

_MAX_PIPELINED = MAX_MSG_QUEUE_SIZE - 1
"""Requests in the queue of a connection from which on it stops reading.

One less than the parser's own limit. The parser counts a request as queued once its body is complete, although the
handler may have taken it before: then it stops at one request less, and aiohttp would never let it continue.
"""
_TOO_MANY_FIELDS = "Too many headers received"  # of aiohttp's parser, which bounds their number by 128


@types.coroutine
def _next_iteration() -> Iterator[None]:
    """Let the event loop serve other connections first.

    From Python 3.12 on aiohttp handles a request without a change of tasks if nothing in it waits, and so all that a
    client has pipelined.
    """
    yield


async def _malformed_request(_request: Request) -> Response:
    raise Problem("malformed_request", headers=(("Connection", "close"),))


MALFORMED_ROUTE = Route("*", "*", _malformed_request, "malformed")


def header_too_large_route(max_header: int) -> Route:
    """Route that refuses a request whose header fields are too large."""

    async def refuse(_request: Request) -> Response:
        detail = f"The request line and each header field may have {max_header} bytes, and there may be 128 fields."
        raise Problem("header_too_large", detail, headers=(("Connection", "close"),))

    return Route("*", "*", refuse, "malformed")


def written_response(response: AnyResponse) -> web.StreamResponse:
    """Return a response that aiohttp writes."""
    return _WrittenResponse(response) if isinstance(response, Response) else response


class _WrittenResponse(web.Response):
    """A `Response` whose head and body are sent with one write to the transport.

    aiohttp's own implementation serves HEAD, HTTP/1.0, bodies over 64 KiB and statuses without a body. As in aiohttp,
    the next request of the connection waits until the client has read enough of the responses.
    """

    _unread: AbstractStreamWriter | None = None
    _written = False
    _keeps_alive = False

    def __init__(self, response: Response) -> None:
        headers = CIMultiDict(response.headers)
        headers["Server"] = "runward"
        if response.content_type:
            headers["Content-Type"] = response.content_type
        super().__init__(body=response.body, status=response.status, headers=headers)
        self._response = response
        if response.closes:
            self.force_close()

    @property
    def keep_alive(self) -> bool | None:
        """True if another request may follow on the connection."""
        return self._keeps_alive if self._written else super().keep_alive

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Write the response. Raises ConnectionResetError if the client has disconnected."""
        body = self.body
        if (
            not isinstance(body, bytes)
            or len(body) > MAX_SINGLE_WRITE
            or self.status in BODILESS
            or request.method == "HEAD"
            or request.version != HttpVersion11
        ):
            return await super().prepare(request)
        transport = request.transport
        if transport is None or transport.is_closing():
            raise ConnectionResetError("the client has disconnected")
        keep_alive = super().keep_alive
        self._keeps_alive = request.keep_alive if keep_alive is None else keep_alive
        if not self._keeps_alive:
            self._response.headers["Connection"] = "close"
        transport.write(self._response.head() + body)
        self._written = True
        if request.protocol.writing_paused:
            self._unread = request.writer
        return None

    async def write_eof(self, data: bytes = b"") -> None:
        """Send the rest of the body, if any, call `on_sent`, and wait while too much is unread.

        Raises ConnectionError if the client disconnects meanwhile.
        """
        if not self._written:
            await self._write_large_body()
            await super().write_eof(data)
        if self._response.on_sent is not None:
            self._response.on_sent()
        if self._unread is not None:
            await self._unread.drain()

    async def _write_large_body(self) -> None:
        """Write a large body in pieces, each once the client has read most of the one before.

        Otherwise the transport would copy the whole body.
        """
        body, writer = self.body, self._payload_writer
        if not isinstance(body, (bytes, bytearray)) or len(body) <= MAX_SINGLE_WRITE:
            return
        if writer is None or self._must_be_empty_body:
            return
        view = memoryview(body)
        for start in range(0, len(body), MAX_SINGLE_WRITE):
            await writer.write(view[start : start + MAX_SINGLE_WRITE])
            await writer.drain()
        self.body = None


class AiohttpConnection(web.RequestHandler):
    """One connection. Requests that the parser rejects pass the middlewares; the parser's message is not disclosed.

    Timers: `header_timeout` seconds for the headers of a request, from the accept or from their first byte, and between
    two moments at which the client reads of its response; `keepalive_timeout` seconds without a request.
    """

    __slots__ = (
        "_byte_budget",
        "_header_timeout",
        "_header_too_large_route",
        "_headers_incomplete",
        "_parse_failed",
        "_write_timeout",
    )

    def __init__(
        self,
        server: web.Server,
        *,
        byte_budget: ByteBudget,
        header_timeout: float,
        header_too_large_route: Route,
        **settings: Any,
    ) -> None:
        super().__init__(server, **settings)
        self._max_msg_queue_size = _MAX_PIPELINED
        self._byte_budget = byte_budget
        self._header_too_large_route = header_too_large_route
        self._header_timeout = header_timeout
        self._headers_incomplete = False
        self._parse_failed = False
        self._write_timeout: WriteTimeout | None = None

    async def _handle_request(
        self, request: web.BaseRequest, start_time: float | None, request_handler: Callable[..., Awaitable[Any]]
    ) -> tuple[web.StreamResponse, bool]:
        """Handle a request and write its response, in a task of its own; then its bytes are no longer held."""
        own_request = cast("AiohttpRequest", request)
        own_request.hold = hold = Hold(self._byte_budget)
        own_request.serving_task = asyncio.current_task()
        current_hold.set(hold)
        try:
            if self._messages:
                await _next_iteration()
            return await super()._handle_request(request, start_time, request_handler)
        finally:
            hold.release()

    def _make_error_handler(  # type: ignore[override]  # typed for BaseRequest
        self, error: _ErrInfo
    ) -> Callable[[AiohttpRequest], Awaitable[web.StreamResponse]]:
        handler = cast("Callable[[AiohttpRequest], Awaitable[web.StreamResponse]]", self._request_handler)
        is_too_large = isinstance(error.exc, LineTooLong) or error.message == _TOO_MANY_FIELDS
        route = self._header_too_large_route if is_too_large else MALFORMED_ROUTE

        async def handle(request: AiohttpRequest) -> web.StreamResponse:
            request.route = route
            return await handler(request)

        return handle

    def handle_error(self, request: web.BaseRequest, *_: object, **__: object) -> web.StreamResponse:
        """Response if the middlewares themselves fail; aiohttp's own would disclose the error."""
        if request.writer.output_size > 0:
            raise ConnectionError("a response has already been started")
        problem = Problem("internal")
        headers = {"Content-Type": CONTENT_TYPE, "Server": "runward"}
        response = web.Response(body=problem.document(""), status=problem.status, headers=headers)
        response.force_close()
        return response

    def data_received(self, data: bytes) -> None:
        """Parse `data`. If the parser fails within a body, raise the error in its reader, which aiohttp does not.

        Data after a failure is dropped: aiohttp would queue one error for each piece, and keep the pieces.
        """
        if self._parse_failed:
            return
        super().data_received(data)
        if self._waiter is not None and not self._waiter.done():
            self._start_header_timer()
        else:
            self._headers_incomplete = False
        if self._messages and isinstance(self._messages[-1][0], _ErrInfo):
            self._parse_failed = True
            self._fail_body()

    def _fail_body(self) -> None:
        """Raise an error in the reader of a body that is not complete, of a request in progress or in the queue."""
        request = self._current_request
        bodies = [] if request is None else [request.content]
        bodies += [body for _, body in self._messages]
        for body in bodies:
            if not body.is_eof():
                body.set_exception(web.RequestPayloadError())

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start the header timer."""
        super().connection_made(transport)
        self._start_header_timer()

    def pause_writing(self) -> None:
        """Start the write timeout."""
        super().pause_writing()
        if self.transport is not None:
            self._write_timeout = WriteTimeout(self.transport, self._header_timeout)

    def resume_writing(self) -> None:
        """Cancel the write timeout."""
        super().resume_writing()
        self._cancel_write_timeout()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Cancel the write timeout."""
        super().connection_lost(exc)
        self._cancel_write_timeout()

    def _start_header_timer(self) -> None:
        """Bring aiohttp's timer of idle connections forward, once for each request."""
        if self._headers_incomplete:
            return
        self._headers_incomplete = True
        if self._keepalive_handle is not None:
            self._keepalive_handle.cancel()
        close_time = self._next_keepalive_close_time = self._loop.time() + self._header_timeout
        self._keepalive_handle = self._loop.call_at(close_time, self._process_keepalive)

    def _cancel_write_timeout(self) -> None:
        if self._write_timeout is not None:
            self._write_timeout.cancel()
            self._write_timeout = None
