"""Requests as handlers see them, with their whole body or with a body that has to be read; and their routes."""

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

    `body`: the whole body; None if it has to be read from an `AiohttpRequest`. `target_path`, `target_query`: the two
    parts of the request target, still percent-encoded. `path_param`: the part of the path that `{id}` or `{path}` of
    the route matched, still percent-encoded. `path_prefix`: the path that a trusted proxy has removed from the front of
    the target, without a slash at its end. `hold`: the bytes of the request, until the response has been written.
    `serving_task`: the task that handles the request. `span`: None unless the request is traced. `ops_caller`: on the
    operations port, what its key permits. `audit_target`, `audit_details`: what the handler says for the audit
    record of a route with an `action`: the id or name of what it changes, and short texts; never anything secret.
    """

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


_NO_HEADERS: MultiMapping[str] = CIMultiDictProxy(CIMultiDict())


class CompleteRequest(Request):
    """Request that has arrived as a whole, for routes that answer with a `Response`."""

    __slots__ = (
        "body",
        "client",
        "client_name",
        "headers",
        "hold",
        "method",
        "ops_caller",
        "path_param",
        "path_prefix",
        "request_id",
        "route",
        "run",
        "serving_task",
        "span",
        "target_path",
        "target_query",
        "transport",
    )

    headers: MultiMapping[str]
    method: str
    target_path: str
    target_query: str
    transport: asyncio.Transport

    def __init__(
        self,
        method: str,
        target: tuple[str, str],
        headers: MultiMapping[str],
        body: bytes,
        transport: asyncio.Transport,
    ) -> None:
        """`target`: path and query of the request target, still percent-encoded."""
        self.client_name = self.path_param = self.path_prefix = self.request_id = ""
        self.hold = self.run = self.serving_task = self.span = self.ops_caller = None
        self.method = method
        self.target_path, self.target_query = target
        self.headers = headers
        self.body = body
        self.transport = transport

    def discard_input(self) -> None:
        """Free header fields and body."""
        self.headers, self.body = _NO_HEADERS, b""

    @property
    def query(self) -> MultiMapping[str]:
        """Decoded parameters of the query."""
        return URL.build(path="/", query_string=self.target_query, encoded=True).query

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
