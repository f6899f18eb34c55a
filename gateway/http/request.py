"""Requests as handlers see them, with their whole body or with a body that has to be read; their heads and routes."""

from __future__ import annotations

import asyncio
import re
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeAlias

from aiohttp import web
from multidict import CIMultiDict, CIMultiDictProxy, MultiMapping
from yarl import URL

from gateway.auth.keys import PresentedKey
from gateway.http.headers import is_encoded, is_json, prefers_async, presented_key
from gateway.http.response import Response
from gateway.problems import Problem

if TYPE_CHECKING:
    from gateway.auth.client import Client
    from gateway.auth.ops_keys import OpsCaller
    from gateway.byte_budget import Hold
    from gateway.observability.tracing.spans import RequestSpan
    from gateway.runs.model import RunRecord


class Request(ABC):
    """Request with the attributes that the router and the pipeline set.

    `head`: request line and header fields. `body`: the whole body; None if it has to be read from an `AiohttpRequest`.
    `target_path`, `target_query`: the two parts of the request target, still percent-encoded. `path_param`: the part of
    the path that `{id}` or `{path}` of the route matched, still percent-encoded. `path_prefix`: the path that a trusted
    proxy has removed from the front of the target, without a slash at its end. `hold`: the bytes of the request, until
    the response has been written. `serving_task`: the task that handles the request. `span`: None unless the request is
    traced. `ops_caller`: on the operations port, what its key permits. `audit_target`, `audit_details`: what the
    handler says for the audit record of a route with an `action`: the id or name of what it changes, and short texts;
    never anything secret.
    """

    head: RequestHead
    body: bytes | None = None
    route: Route
    path_param: str = ""
    path_prefix: str = ""
    request_id: str = ""
    client: Client
    client_name: str = ""
    run: RunRecord | None = None
    hold: Hold | None = None
    serving_task: asyncio.Task[object] | None = None
    span: RequestSpan | None = None
    ops_caller: OpsCaller | None = None
    audit_target: str = ""
    audit_details: Mapping[str, str] = MappingProxyType({})

    @property
    @abstractmethod
    def method(self) -> str:
        """Method, in upper case."""

    @property
    @abstractmethod
    def target_path(self) -> str:
        """Path of the request target."""

    @property
    @abstractmethod
    def target_query(self) -> str:
        """Query of the request target, without the question mark."""

    @property
    @abstractmethod
    def headers(self) -> MultiMapping[str]:
        """Header fields."""

    @property
    @abstractmethod
    def query(self) -> MultiMapping[str]:
        """Decoded parameters of the query."""

    @property
    @abstractmethod
    def content_length(self) -> int | None:
        """Announced size of the body in bytes."""

    @property
    @abstractmethod
    def transport(self) -> asyncio.BaseTransport | None:
        """Transport of the connection; None once it has been lost."""

    @property
    @abstractmethod
    def remote(self) -> str | None:
        """Address of the peer."""

    @abstractmethod
    def discard_input(self) -> None:
        """Free header fields and body, once a run has been made of them: a run may wait for hours for its provider."""

    def connection_check(self) -> Callable[[], bool]:
        """Function that returns True while the client is connected. It does not reference the request."""
        transport = self.transport
        if transport is None:
            return lambda: False
        is_closing = transport.is_closing
        return lambda: not is_closing()


class CompleteRequest(Request):
    """Request that has arrived as a whole, for routes that answer with a `Response`.

    Its `headers` are without those that carry the key: its head may be kept for further requests.
    """

    __slots__ = (
        "body",
        "client",
        "client_name",
        "head",
        "hold",
        "ops_caller",
        "path_param",
        "path_prefix",
        "request_id",
        "route",
        "run",
        "serving_task",
        "span",
        "transport",
    )

    transport: asyncio.Transport

    def __init__(self, head: RequestHead, body: bytes, transport: asyncio.Transport) -> None:
        self.client_name = self.path_prefix = self.request_id = ""
        self.hold = self.run = self.serving_task = self.span = self.ops_caller = None
        self.head = head
        self.route = head.route
        self.path_param = head.path_param
        self.body = body
        self.transport = transport

    def discard_input(self) -> None:
        """Free header fields and body."""
        self.head, self.body = _NO_HEAD, b""

    @property
    def method(self) -> str:
        """Method, in upper case."""
        return self.head.method

    @property
    def target_path(self) -> str:
        """Path of the request target."""
        return self.head.path

    @property
    def target_query(self) -> str:
        """Query of the request target, without the question mark."""
        return self.head.query

    @property
    def headers(self) -> MultiMapping[str]:
        """Header fields."""
        return self.head.headers

    @property
    def query(self) -> MultiMapping[str]:
        """Decoded parameters of the query."""
        return URL.build(path="/", query_string=self.head.query, encoded=True).query

    @property
    def content_length(self) -> int:
        """Size of the body in bytes."""
        return len(self.body or b"")

    @property
    def remote(self) -> str | None:
        """Address of the peer."""
        peer = self.transport.get_extra_info("peername")
        return str(peer[0]) if isinstance(peer, (list, tuple)) else None


class AiohttpRequest(web.BaseRequest, Request):
    """Request of aiohttp: its body is read in parts, and its response may be a stream or a WebSocket."""

    @property
    def target_path(self) -> str:
        """Path of the request target."""
        return self.rel_url.raw_path

    @property
    def target_query(self) -> str:
        """Query of the request target, without the question mark."""
        return self.rel_url.raw_query_string

    def discard_input(self) -> None:
        """Do nothing: the connection refers to header fields and body as well."""


AnyResponse: TypeAlias = Response | web.StreamResponse
"""A response to be written, or a stream or WebSocket of an `AiohttpRequest` that has ended."""

Handler: TypeAlias = Callable[[Request], Awaitable[AnyResponse]]
Middleware: TypeAlias = Callable[[Handler], Handler]


is_valid_host: Callable[[str], object] = re.compile(r"[A-Za-z0-9._~!$&'()*+,;=%:\[\]-]*").fullmatch
"""Match of a valid `Host` field (RFC 9112, 3.2: else a 400)."""


def never(_headers: MultiMapping[str]) -> bool:
    """Return False: the route never needs a stream."""
    return False


def always(_headers: MultiMapping[str]) -> bool:
    """Return True: the route may read its body in parts, or answer with a stream or a WebSocket."""
    return True


@dataclass(frozen=True, slots=True)
class Route:
    """One method of one path. `name`: its label in metrics. `requires_key`: a gateway key is required.

    The last segment of a path may be `{id}`, or one part of it `{path}`, which matches anything, slashes included.
    `render_problem` replaces the problem document. `key_headers`: further header fields that may carry the key.
    `streams`: whether the handler needs an `AiohttpRequest`, by the header fields of the request. `starts_run`: its
    requests are for runs. `shows_team`: its handler shows a viewer of a team what belongs to that team only; other
    routes of the operations port refuse such a viewer. `action`: name in audit records of what the route changes, on
    the operations port.
    """

    method: str
    path: str
    handler: Handler
    name: str
    requires_key: bool = False
    logged: bool = True
    render_problem: Callable[[Problem, Request], Response] | None = None
    key_headers: Sequence[str] = ()
    streams: Callable[[MultiMapping[str]], bool] = never
    starts_run: bool = False
    shows_team: bool = False
    action: str = ""


_is_request_id: Callable[[str], object] = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}").fullmatch


class RequestHead:
    """Request line and header fields of a request, its route, and everything else that follows from them alone.

    It does not change, so usual requests that begin with the same bytes share it. What depends on anything else, such
    as whether the key is valid, is decided for each request.

    `path`, `query`, `path_param`: as of a `Request`. `content_length`, `keep_alive`: of a usual request, the bytes of
    its body, and whether another one may follow. `request_id`: the client's own, if valid, else "". `is_json`: the
    `Content-Type` is that of JSON. `is_encoded`: the body has a content coding, or a transfer coding other than
    chunked. `prefers_async`: `Prefer: respond-async` was sent. `idempotency_keys`, `traceparents`: the values of these
    fields. `keep_as`: digest and size of the bytes under which a `HeadCache` may keep the head, until it does.
    """

    __slots__ = (
        "content_length",
        "headers",
        "idempotency_keys",
        "is_encoded",
        "is_json",
        "keep_alive",
        "keep_as",
        "key",
        "method",
        "path",
        "path_param",
        "prefers_async",
        "query",
        "request_id",
        "route",
        "traceparents",
    )

    def __init__(
        self,
        method: str,
        target: tuple[str, str],
        headers: MultiMapping[str],
        route: Route,
        path_param: str = "",
        *,
        content_length: int = 0,
        keep_alive: bool = True,
    ) -> None:
        """`target`: path and query."""
        self.method = method
        self.path, self.query = target
        self.headers = headers
        self.route = route
        self.path_param = path_param
        self.content_length = content_length
        self.keep_alive = keep_alive
        self.key = PresentedKey(presented_key(headers, route.key_headers))
        client_id = headers.get("X-Request-Id", "")
        self.request_id = client_id if _is_request_id(client_id) else ""
        self.is_json = is_json(headers)
        self.is_encoded = is_encoded(headers)
        self.prefers_async = prefers_async(headers)
        self.idempotency_keys: Sequence[str] = headers.getall("Idempotency-Key", ())
        self.traceparents: Sequence[str] = headers.getall("traceparent", ())
        self.keep_as: tuple[bytes, int] | None = None


async def _no_handler(_request: Request) -> Response:
    raise NotImplementedError


_NO_HEAD = RequestHead("", ("", ""), CIMultiDictProxy(CIMultiDict[str]()), Route("", "", _no_handler, ""))
"""Head of a request whose input was discarded."""
