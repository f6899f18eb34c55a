"""Pass-through of a provider's other endpoints, for paths that the configuration lists."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol, cast

from aiohttp import web

from gateway.clock import Clock
from gateway.content_decoding import CODINGS, UndecodableError, decode
from gateway.http.authentication import Authenticator
from gateway.http.body import read_coded_body
from gateway.http.headers import accepts_gzip, content_type
from gateway.http.pipeline import InFlightLimiter
from gateway.http.request import AiohttpRequest, AnyResponse, Request, Route, always
from gateway.http.response import Response, make_response, problem_headers
from gateway.http.traceparent import request_traceparent, start_span
from gateway.json import strict_json
from gateway.json.string_members import find_strings
from gateway.observability.tracing.spans import Tracer
from gateway.passthrough_rules import normalize_path
from gateway.problems import Problem
from gateway.runs.passthrough import Passthrough
from gateway.runs.rendering import JSON_CONTENT_TYPE
from providers.contract import ProviderFault

# Paths of the official SDKs: for these, the problem names the setting that permits them.
_SDK_PATHS = re.compile(
    r"/(prompt-templates|rest|library-[a-z-]+|track-[a-z-]+|create-group|log-request|workflows|spans-bulk|v1/traces"
    r"|reports|prompts|prompt-labels|datasets|dataset-groups|folders"
    r"|api/public|api/v1/completion)(/.*)?"
).fullmatch
_MAX_UNAUTHENTICATED_READS = 32  # concurrent reads of bodies that carry the key in place of a header
_MAX_LARGE_UNAUTHENTICATED_READS = 2  # of bodies larger than `max_body`
_BODY_TIMEOUT = 60.0  # seconds to receive the body of an authenticated client
_IDLE_TIMEOUT = 60.0  # seconds without a part of a stream
_DISCONNECTION_CHECK = 1.0  # seconds between checks whether the client of a stream is still connected


@dataclass(frozen=True, slots=True)
class _ParsedRequest:
    """Parsed request. `body` is None if it has not been read yet; `coding` is its content coding, or ""."""

    path: str
    key: str
    body: bytes | None = None
    coding: str = ""


@dataclass(slots=True)
class PassthroughHandler:
    """Handler for paths without a route. `max_body` in bytes, `body_timeout` in seconds, without a key in the header.

    Without a valid key, and for unknown paths, the response is 404 `unknown_route`: listed paths are not disclosed.
    """

    passthrough: Passthrough
    in_flight_limiter: InFlightLimiter
    authenticator: Authenticator
    clock: Clock
    max_body: int
    body_timeout: float
    tracer: Tracer | None = None
    _unauthenticated_reads: dict[asyncio.Timeout, None] = field(default_factory=dict)
    _large_unauthenticated_reads: dict[asyncio.Timeout, None] = field(default_factory=dict)
    _route: Route = field(init=False)

    def __post_init__(self) -> None:
        self._route = Route(
            "*", "*", self.handle, "passthrough", requires_key=True, render_problem=render_problem, streams=always
        )

    def fallback_route(self) -> Route:
        """Route for paths without a route."""
        return Route("*", "*", self.handle, "unknown", streams=always)

    async def handle(self, request: Request) -> AnyResponse:
        """Forward a permitted request. Otherwise a client with a valid key gets 403 that names the missing setting."""
        path = normalize_path(request.target_path)
        if path is None or not (_SDK_PATHS(path) or self.passthrough.allows(request.method, path)):
            raise _unknown_route()
        parsed = await self._parse(request, path)
        await self.authenticator.wait_for_keys(parsed.key)
        client = self.authenticator.client_of(request, parsed.key)
        if client is None:
            raise _unknown_route()
        request.client, request.client_name, request.route = client, client.name, self._route
        if self.tracer is not None:
            start_span(self.tracer, request)
        forward = self.in_flight_limiter.limit_in_flight(partial(self._forward, parsed=parsed))
        return await forward(request)

    async def handle_authenticated(self, request: Request) -> AnyResponse:
        """Forward a request of an authenticated client that its own route does not serve, or refuse it as `handle`."""
        path = normalize_path(request.target_path)
        if path is None:
            raise _unknown_route()
        return await self._forward(request, parsed=_ParsedRequest(path, request.head.key.text))

    async def _parse(self, request: Request, path: str) -> _ParsedRequest:
        """Find the key; the body is read if it has to be: older calls of the SDKs send `api_key` in the body only."""
        key = request.head.key.text
        if key or request.method != "POST" or not _has_json_body(request):
            return _ParsedRequest(path, key)
        body, coding = await self._read_unauthenticated_body(request)
        return _ParsedRequest(path, await _key_from_body(body, coding, self.max_body), body, coding)

    async def _read_unauthenticated_body(self, request: Request) -> tuple[bytes, str]:
        """Read the body. If too many are being read, the slowest upload is aborted (slow-loris protection)."""
        reads, limit, max_body = self._unauthenticated_reads, _MAX_UNAUTHENTICATED_READS, self.max_body
        if (request.content_length or 0) > max_body:
            reads, limit = self._large_unauthenticated_reads, _MAX_LARGE_UNAUTHENTICATED_READS
            max_body = self.passthrough.max_body
        if len(reads) >= limit:
            slowest = next(iter(reads))
            del reads[slowest]
            slowest.reschedule(0)
        timeout = asyncio.timeout(None)
        reads[timeout] = None
        try:
            async with timeout:
                return await self._read_body(request, max_body, self.body_timeout)
        except TimeoutError:
            raise Problem("overloaded", retry_after=1, headers=(("Connection", "close"),)) from None
        finally:
            reads.pop(timeout, None)

    @staticmethod
    async def _read_body(request: Request, max_body: int, timeout: float) -> tuple[bytes, str]:  # noqa: ASYNC109
        return await read_coded_body(request, codings=CODINGS, max_bytes=max_body, timeout=timeout)

    async def _forward(self, request: Request, *, parsed: _ParsedRequest) -> AnyResponse:
        if not request.client.may_pass_through:
            raise Problem("forbidden", "A key with a scope of its own may not use passthrough.")
        provider = self.passthrough.find_provider(request.client_name, request.method, parsed.path)
        if provider is None:
            raise Problem("forbidden", self._forbidden_detail(request.method, parsed.path))
        body, coding = parsed.body, parsed.coding
        if body is None:
            body, coding = await self._read_body(request, self.passthrough.max_body, _BODY_TIMEOUT)
        connected = request.connection_check()
        stream: web.StreamResponse | None = None
        try:
            async with self.passthrough.forward(
                request.client_name,
                provider,
                client_connected=connected,
                method=request.method,
                path=parsed.path,
                query=request.target_query,
                headers=self._forwarded_headers(request),
                body=body,
                client_key=parsed.key,
                coding=coding,
                accepts_gzip=accepts_gzip(request.headers),
                key_limits=request.client.key_limits,
            ) as response:
                headers = {**dict(response.headers), "X-Content-Type-Options": "nosniff"}
                media_type = headers.pop("content-type", "application/octet-stream")
                if response.stream is None:
                    return make_response(response.status, response.body, media_type, tuple(headers.items()))
                stream = _start_stream(request, response.status, media_type, headers)
                await _send_stream(request, stream, response.stream, connected)
        except (ProviderFault, _ClientLeftError):
            if stream is None:
                raise
            # The end of the body is missing, so the client sees that it is not complete.
            if request.transport is not None:
                request.transport.close()
        return stream

    def _forwarded_headers(self, request: Request) -> tuple[tuple[str, str], ...]:
        traceparent = request_traceparent(request, self.clock)
        headers = [(name, value) for name, value in request.headers.items() if name.lower() != "traceparent"]
        return (*headers, ("traceparent", traceparent))

    def _forbidden_detail(self, method: str, path: str) -> str:
        if self.passthrough.starts_run(method, path):
            return "Paths that start runs are never passed through: use the routes for runs."
        sdk_path = _SDK_PATHS(path)
        if path.startswith("/workflows/") and method != "GET":  # a prefix would include starts
            return f"{method} {path} is not passed through: an operator must list it in clients.<name>.passthrough."
        route = f"{method} /{sdk_path[1]}{'/*' * (sdk_path[2] is not None)}" if sdk_path else "This"
        return f"{route} is not passed through: an operator must list it in clients.<name>.passthrough."


def render_problem(problem: Problem, _request: Request) -> Response:
    """Render a problem in PromptLayer's format: its SDKs show `message` or `error`."""
    body = strict_json.write({"success": False, "message": problem.text, "error": problem.text})
    headers = (("Runward-Problem", problem.code), *problem_headers(problem))
    return make_response(problem.status, body, JSON_CONTENT_TYPE, headers)


def _has_json_body(request: Request) -> bool:
    media_type = content_type(request.headers).value
    return media_type == JSON_CONTENT_TYPE or media_type.endswith("+json")


async def _key_from_body(body: bytes, coding: str, max_body: int) -> str:
    """Key in the top-level member `api_key`; empty without one. A compressed body is decoded to `max_body` bytes."""
    if not coding and len(body) <= max_body:
        return _find_key(body)
    return await asyncio.to_thread(_find_key, body, coding, max_body)


def _find_key(body: bytes, coding: str = "", max_body: int = 0) -> str:
    try:
        content = decode(body, max_body) if coding else body
    except UndecodableError:
        return ""
    return next((member.value for member in find_strings(content, "api_key")), "")


class _BodyStream(Protocol):
    """Body of a response that arrives in parts."""

    async def read(self, *, idle_timeout: float, interval: float, client_connected: Callable[[], bool]) -> bytes | None:
        """Return the next part; b"" at the end, None once the client has disconnected. Raises ProviderFault."""


class _ClientLeftError(Exception):
    """The client of a stream has disconnected."""


def _start_stream(request: Request, status: int, media_type: str, headers: Mapping[str, str]) -> web.StreamResponse:
    """Return the response to a request, with the field that keeps proxies from buffering it."""
    stream = web.StreamResponse(status=status, headers={**headers, "Content-Type": media_type, "Server": "runward"})
    stream.headers["X-Accel-Buffering"] = "no"
    stream.headers["X-Request-Id"] = request.request_id
    return stream


async def _send_stream(
    request: Request, stream: web.StreamResponse, source: _BodyStream, connected: Callable[[], bool]
) -> None:
    """Pass the parts on as they arrive. Raises ProviderFault, and _ClientLeftError."""
    try:
        await stream.prepare(cast("AiohttpRequest", request))
        while part := await source.read(
            idle_timeout=_IDLE_TIMEOUT, interval=_DISCONNECTION_CHECK, client_connected=connected
        ):
            await stream.write(part)  # waits while the client does not read
        if part is None:
            raise _ClientLeftError
        await stream.write_eof()
    except ConnectionError:
        raise _ClientLeftError from None


def _unknown_route() -> Problem:
    return Problem("unknown_route", "No route matches this path.")
