"""HTTP server: a table of routes behind middlewares, and the connections of its clients."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable, Sequence

from aiohttp import StreamReader, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http import HttpVersion10, HttpVersion11
from aiohttp.http_parser import RawRequestMessage
from multidict import CIMultiDict, CIMultiDictProxy

from gateway.byte_budget import ByteBudget
from gateway.http.connection.aiohttp_connection import (
    MALFORMED_ROUTE,
    AiohttpConnection,
    header_too_large_route,
    written_response,
)
from gateway.http.connection.head_cache import HeadCache
from gateway.http.connection.http1_connection import Http1Connection
from gateway.http.connection.idle_sweep import IdleSweep
from gateway.http.request import (
    AiohttpRequest,
    AnyResponse,
    Handler,
    Middleware,
    Request,
    RequestHead,
    Route,
    is_valid_host,
)
from gateway.http.router import UNKNOWN_ROUTE, Router
from gateway.write_batch import WriteBatch

MAX_HEADER = 8190
"""Default size in bytes of the request line and of each header field."""
_CANCEL_SECONDS = 1.0  # wait for requests that were cancelled
_HTTP_VERSIONS = (HttpVersion11, HttpVersion10)


class Server(web.Server):
    """HTTP server for a table of routes behind middlewares, outermost first.

    A connection begins as a `Http1Connection`, which serves requests of the usual form, and continues as an
    `AiohttpConnection` once it has another one. `fallback` serves paths without a route; by default it raises the
    problem `unknown_route`.
    """

    def __init__(
        self,
        routes: Iterable[Route],
        middlewares: Sequence[Middleware],
        *,
        header_timeout: float,
        idle_timeout: float = 75.0,
        max_header: int = MAX_HEADER,
        fallback: Route | None = None,
        byte_budget: ByteBudget | None = None,
    ) -> None:
        """`header_timeout`, `idle_timeout`: seconds; see `Http1Connection`.

        `max_header`: size in bytes of the request line, and of the name and of the value of each header field.
        """
        self.byte_budget = byte_budget or ByteBudget()
        self.router = Router.from_routes(routes, fallback or UNKNOWN_ROUTE)
        self.header_timeout, self.idle_timeout = header_timeout, idle_timeout
        self.max_header = max_header
        self.max_usual_head = min(max_header, MAX_HEADER)
        self.head_cache = HeadCache()
        self.http1_connections = IdleSweep[Http1Connection](min(header_timeout, idle_timeout))
        self.write_batch = WriteBatch()
        self._header_too_large_route = header_too_large_route(max_header)
        handler: Handler = self._dispatch
        for middleware in reversed(middlewares):
            handler = middleware(handler)
        self.handler = handler

        async def handle(request: Request) -> web.StreamResponse:
            return written_response(await handler(request))

        super().__init__(
            handle,  # type: ignore[arg-type]  # typed for BaseRequest; `_make_request` makes AiohttpRequest
            keepalive_timeout=idle_timeout,
            auto_decompress=False,
            access_log=None,
            lingering_time=2.0,
            max_line_size=max_header,
            max_field_size=max_header,
        )

    def __call__(self) -> Http1Connection:  # type: ignore[override]  # a protocol is all that an event loop needs
        """Protocol of one connection."""
        return Http1Connection(self)

    def aiohttp_connection(self) -> AiohttpConnection:
        """Protocol of one connection whose requests are not of the usual form."""
        return AiohttpConnection(
            self,
            byte_budget=self.byte_budget,
            header_timeout=self.header_timeout,
            header_too_large_route=self._header_too_large_route,
            loop=self._loop,
            **self._kwargs,
        )

    def pre_shutdown(self) -> None:
        """Close idle connections; the others are closed after their response."""
        super().pre_shutdown()
        for connection in self.http1_connections:
            connection.close_when_idle()

    async def shutdown(self, timeout: float | None = None) -> None:  # noqa: ASYNC109
        """Close every connection, `timeout` seconds after it was asked to end at the latest."""
        deadline = None if timeout is None else self._loop.time() + timeout
        connections = list(self.http1_connections)
        tasks = [connection.task for connection in connections if connection.task is not None]
        closed = [connection.close_when_idle() for connection in connections]
        if closed:
            await asyncio.wait(closed, timeout=timeout)
        for connection in connections:
            connection.abort()
        if tasks:
            await asyncio.wait(tasks, timeout=_CANCEL_SECONDS)
        await super().shutdown(None if deadline is None else max(0.0, deadline - self._loop.time()))

    def _make_request(
        self,
        message: RawRequestMessage,
        payload: StreamReader,
        protocol: web.RequestHandler,
        writer: AbstractStreamWriter,
        task: asyncio.Task[None],
    ) -> AiohttpRequest:
        version_supported = message.version in _HTTP_VERSIONS
        if not version_supported:  # the parser accepts HTTP/2.0 and 0.9, and the response would state that version
            message = message._replace(version=HttpVersion11)
        if not message.headers:  # of malformed data: a plain dictionary
            message = message._replace(headers=CIMultiDictProxy(CIMultiDict()))
        request = AiohttpRequest(message, payload, protocol, writer, task, self._loop)
        well_formed = version_supported and is_valid_host(message.headers.get("Host", ""))
        path = request.target_path
        route, parameter = self.router.find(request.method, path) if well_formed else (MALFORMED_ROUTE, "")
        request.head = RequestHead(request.method, (path, request.target_query), request.headers, route, parameter)
        request.route, request.path_param = route, parameter
        return request

    def _dispatch(self, request: Request) -> Awaitable[AnyResponse]:
        """Call the handler of a request that passed the middlewares. Keep its head if the client was authenticated."""
        head = request.head
        if head.keep_as is not None and request.client_name:
            self.head_cache.keep(head)
        return request.route.handler(request)
