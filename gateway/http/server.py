"""HTTP server: aiohttp's low-level server with a router that finds a route with one dictionary look-up.

An application is a table of routes and a table of middlewares.
"""

from __future__ import annotations

import asyncio
import fcntl
import re
import sys
import termios
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from aiohttp import StreamReader, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http import HttpVersion10, HttpVersion11
from aiohttp.http_exceptions import LineTooLong
from aiohttp.http_parser import RawRequestMessage
from aiohttp.web_protocol import _ErrInfo

from gateway.byte_budget import ByteBudget, Hold, current_hold
from gateway.problems import CONTENT_TYPE, Problem

if TYPE_CHECKING:
    from gateway.auth.client import Client
    from gateway.runs.model import RunRecord


class Request(web.BaseRequest):
    """Request with the attributes that middlewares set. `hold`: its bytes, until the response has been written.

    `path_param`: the part of the path that `{id}` or `{path}` of the route matched, still percent-encoded.
    `path_prefix`: the path that a trusted proxy has removed from the front of the target, without a slash at its end.
    """

    route: Route
    path_param: str = ""
    path_prefix: str = ""
    request_id: str = ""
    client: Client
    client_name: str = ""
    run: RunRecord | None = None
    hold: Hold | None = None

    def connection_check(self) -> Callable[[], bool]:
        """Function that returns True while the client is connected. It does not reference the request."""
        transport = self.transport
        return lambda: transport is not None and not transport.is_closing()


Handler: TypeAlias = Callable[[Request], Awaitable[web.StreamResponse]]
Middleware: TypeAlias = Callable[[Handler], Handler]


@dataclass(frozen=True, slots=True)
class Route:
    """One method of one path. `name`: its label in metrics. `requires_key`: a gateway key is required.

    The last segment of a path may be `{id}`, or one part of it `{path}`, which matches anything, slashes included.
    `render_problem` replaces the problem document. `key_headers`: further header fields that may carry the key.
    """

    method: str
    path: str
    handler: Handler
    name: str
    requires_key: bool = False
    logged: bool = True
    render_problem: Callable[[Problem, Request], web.Response] | None = None
    key_headers: Sequence[str] = ()


def with_double_slash(routes: Iterable[Route]) -> list[Route]:
    """The routes, each also with a doubled leading slash: clients whose base URL ends in a slash send it."""
    return [replace(route, path=slash + route.path) for route in routes for slash in ("", "/")]


async def _unknown_route(_request: Request) -> web.Response:
    raise Problem("unknown_route", "No route matches this path.")


async def _malformed_request(_request: Request) -> web.Response:
    raise Problem("malformed_request", headers=(("Connection", "close"),))


def _header_too_large_route(max_header: int) -> Route:
    async def refuse(_request: Request) -> web.Response:
        detail = f"The request line and each header field may have {max_header} bytes, and there may be 128 fields."
        raise Problem("header_too_large", detail, headers=(("Connection", "close"),))

    return Route("*", "*", refuse, "malformed")


_UNKNOWN_ROUTE = Route("*", "*", _unknown_route, "unknown")
_MALFORMED_ROUTE = Route("*", "*", _malformed_request, "malformed")
MAX_HEADER = 8190
"""Default size in bytes of the request line and of each header field."""
_HTTP_VERSIONS = (HttpVersion11, HttpVersion10)
_TOO_MANY_FIELDS = "Too many headers received"  # of aiohttp's parser, which bounds their number by 128
_WRITE_CHECKS = 4  # checks of the progress of a response within the header timeout
_VALID_HOST = re.compile(r"[A-Za-z0-9._~!$&'()*+,;=%:\[\]-]*").fullmatch  # RFC 9112, 3.2: else a 400


@dataclass(frozen=True, slots=True)
class Router:
    """Finds the route of a request: by path, by all but the last segment (`{id}`), or by prefix and suffix (`{path}`).

    Paths are compared as sent, without decoding or resolution of dot segments.
    """

    routes: Mapping[str, Mapping[str, Route]] = field(default_factory=dict)
    patterns: Sequence[tuple[str, str, Mapping[str, Route]]] = ()
    fallback: Route = _UNKNOWN_ROUTE

    @classmethod
    def from_routes(cls, routes: Iterable[Route], fallback: Route = _UNKNOWN_ROUTE) -> Router:
        """Build the router. `fallback` serves paths without a route."""
        table: dict[str, dict[str, Route]] = {}
        for route in routes:
            methods = table.setdefault(route.path, {})
            methods[route.method] = route
            if route.method == "GET":  # aiohttp leaves the body out
                methods["HEAD"] = route
        parts = [(*path.partition("{path}"), methods) for path, methods in table.items()]
        patterns = [(before, after, methods) for before, between, after, methods in parts if between]
        patterns.sort(key=lambda span: -len(span[0]) - len(span[1]))  # the longest match first
        return cls(table, patterns, fallback)

    def find(self, request: Request) -> Route:
        """Route of the request; for an unknown path or method, a route that raises the problem."""
        path = request.rel_url.raw_path
        methods = self.routes.get(path)
        if methods is None:
            parent, _, request.path_param = path.rpartition("/")
            methods = self.routes.get(parent + "/{id}") or self._match_pattern(path, request)
        if methods is None:
            return self.fallback
        return methods.get(request.method) or self._method_not_allowed(methods)

    def _match_pattern(self, path: str, request: Request) -> Mapping[str, Route] | None:
        other_methods: Mapping[str, Route] | None = None
        for before, after, methods in self.patterns:
            if len(path) > len(before) + len(after) and path.startswith(before) and path.endswith(after):
                if request.method in methods:
                    request.path_param = path[len(before) : len(path) - len(after)]
                    return methods
                other_methods = other_methods or methods
        return other_methods

    @staticmethod
    def _method_not_allowed(methods: Mapping[str, Route]) -> Route:
        allow = ", ".join(sorted(methods))

        async def refuse(_request: Request) -> web.Response:
            raise Problem("method_not_allowed", f"Allowed methods: {allow}.", headers=(("Allow", allow),))

        route = next(iter(methods.values()))
        return Route("*", "*", refuse, route.name, render_problem=route.render_problem)


class Server(web.Server):
    """HTTP server for a table of routes behind middlewares, outermost first.

    `fallback` serves paths without a route; by default it raises the problem `unknown_route`.
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
        """`header_timeout`, `idle_timeout`: seconds; see `_ServerConnection`.

        `max_header`: size in bytes of the request line, and of the name and of the value of each header field.
        """
        self.byte_budget = byte_budget or ByteBudget()
        self._router = Router.from_routes(routes, fallback or _UNKNOWN_ROUTE)
        self._header_timeout = header_timeout
        self._header_too_large_route = _header_too_large_route(max_header)
        handler: Handler = self._dispatch
        for middleware in reversed(middlewares):
            handler = middleware(handler)
        super().__init__(
            handler,  # type: ignore[arg-type]  # typed for BaseRequest; `_make_request` makes Request
            keepalive_timeout=idle_timeout,
            auto_decompress=False,
            access_log=None,
            lingering_time=2.0,
            max_line_size=max_header,
            max_field_size=max_header,
        )

    def __call__(self) -> web.RequestHandler:
        """Protocol of one connection."""
        return _ServerConnection(
            self,
            header_timeout=self._header_timeout,
            header_too_large_route=self._header_too_large_route,
            loop=self._loop,
            **self._kwargs,
        )

    def _make_request(
        self,
        message: RawRequestMessage,
        payload: StreamReader,
        protocol: web.RequestHandler,
        writer: AbstractStreamWriter,
        task: asyncio.Task[None],
    ) -> Request:
        version_supported = message.version in _HTTP_VERSIONS
        if not version_supported:  # the parser accepts HTTP/2.0 and 0.9, and the response would state that version
            message = message._replace(version=HttpVersion11)
        request = Request(message, payload, protocol, writer, task, self._loop)
        well_formed = version_supported and _VALID_HOST(message.headers.get("Host", ""))
        request.route = self._router.find(request) if well_formed else _MALFORMED_ROUTE
        return request

    @staticmethod
    async def _dispatch(request: Request) -> web.StreamResponse:
        return await request.route.handler(request)


class _ServerConnection(web.RequestHandler):
    """One connection. Requests that the parser rejects pass the middlewares; the parser's message is not disclosed.

    Timers: `header_timeout` seconds for the headers of a request, from the accept or from their first byte, and between
    two moments at which the client reads of its response; `keepalive_timeout` seconds without a request.
    """

    __slots__ = (
        "_header_timeout",
        "_header_too_large_route",
        "_headers_incomplete",
        "_parse_failed",
        "_stalled_checks",
        "_unread_bytes",
        "_write_timer",
    )

    def __init__(self, *args: Any, header_timeout: float, header_too_large_route: Route, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._header_too_large_route = header_too_large_route
        self._header_timeout = header_timeout
        self._headers_incomplete = False
        self._parse_failed = False
        self._stalled_checks = 0
        self._unread_bytes = 0
        self._write_timer: asyncio.TimerHandle | None = None

    async def _handle_request(
        self, request: web.BaseRequest, start_time: float | None, request_handler: Callable[..., Awaitable[Any]]
    ) -> tuple[web.StreamResponse, bool]:
        """Handle a request and write its response, in a task of its own; then its bytes are no longer held."""
        server = cast("Server", self._manager)
        cast("Request", request).hold = hold = Hold(server.byte_budget)
        current_hold.set(hold)
        try:
            return await super()._handle_request(request, start_time, request_handler)
        finally:
            hold.release()

    def _make_error_handler(self, error: _ErrInfo) -> Handler:  # type: ignore[override]  # as in Server.__init__
        handler = cast("Handler", self._request_handler)
        is_too_large = isinstance(error.exc, LineTooLong) or error.message == _TOO_MANY_FIELDS
        route = self._header_too_large_route if is_too_large else _MALFORMED_ROUTE

        async def handle(request: Request) -> web.StreamResponse:
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
            request = self._current_request
            if request is not None and not request.content.is_eof():
                request.content.set_exception(web.RequestPayloadError())

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start the header timer."""
        super().connection_made(transport)
        self._start_header_timer()

    def pause_writing(self) -> None:
        """Start the write timer."""
        super().pause_writing()
        self._stalled_checks = 0
        self._restart_write_timer()

    def resume_writing(self) -> None:
        """Cancel the write timer."""
        super().resume_writing()
        self._cancel_write_timer()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Cancel the write timer."""
        super().connection_lost(exc)
        self._cancel_write_timer()

    def _start_header_timer(self) -> None:
        """Bring aiohttp's timer of idle connections forward, once for each request."""
        if self._headers_incomplete:
            return
        self._headers_incomplete = True
        if self._keepalive_handle is not None:
            self._keepalive_handle.cancel()
        close_time = self._next_keepalive_close_time = self._loop.time() + self._header_timeout
        self._keepalive_handle = self._loop.call_at(close_time, self._process_keepalive)

    def _restart_write_timer(self) -> None:
        self._unread_bytes = self._count_unread_bytes()
        interval = self._header_timeout / _WRITE_CHECKS
        self._write_timer = self._loop.call_later(interval, self._check_write_progress)

    def _check_write_progress(self) -> None:
        """Close the connection if the client has read nothing for the header timeout."""
        progress = self._count_unread_bytes() < self._unread_bytes
        self._stalled_checks = 0 if progress else self._stalled_checks + 1
        if self._stalled_checks < _WRITE_CHECKS:
            self._restart_write_timer()
        elif self.transport is not None:
            self.transport.abort()

    def _count_unread_bytes(self) -> int:
        """Bytes of the response that the client has not acknowledged, in the process and (on Linux) in the kernel."""
        transport = self.transport
        if transport is None:
            return 0
        sock = transport.get_extra_info("socket")
        return transport.get_write_buffer_size() + (0 if sock is None else _unacknowledged_bytes(sock.fileno()))

    def _cancel_write_timer(self) -> None:
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None


def _unacknowledged_bytes(descriptor: int) -> int:
    """Bytes in the send queue of a TCP socket: tcp(7), SIOCOUTQ; 0 where it is not supported."""
    try:
        return int.from_bytes(fcntl.ioctl(descriptor, termios.TIOCOUTQ, bytes(4)), sys.byteorder)
    except (OSError, ValueError):  # not supported, or closed
        return 0
