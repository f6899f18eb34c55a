"""What no route is for: a provider's other endpoints, passed through where the configuration lists them."""

from __future__ import annotations

import asyncio
import math
import re
from dataclasses import dataclass, field
from functools import partial

from aiohttp import web

from gateway import strictjson
from gateway.clock import Clock
from gateway.http.body import make_response, read_raw_body
from gateway.http.middleware import Authenticator, InFlightLimiter, presented_key
from gateway.http.server import Request, Route
from gateway.http.traceparent import read_traceparent
from gateway.passthrough_rules import normalize_path
from gateway.problems import PROBLEMS, Problem
from gateway.runs.passthrough import Passthrough
from gateway.runs.rendering import JSON_CONTENT_TYPE

# What the official SDKs call beside workflows: an app on one of them is told how to be let through.
_SDK_PATHS = re.compile(
    r"/(prompt-templates|rest|library-[a-z-]+|track-[a-z-]+|create-group|log-request|workflows|spans-bulk|v1/traces"
    r"|api/public|api/v1/completion)(/.*)?"
).fullmatch
_MAX_UNAUTHENTICATED_READS = 32  # bodies that are read at once to see whose they are, because no header says so


@dataclass(frozen=True, slots=True)
class _ParsedRequest:
    """What a client wants to be passed on. `body` is None where it is still to be read."""

    path: str
    key: str
    body: bytes | None


@dataclass(slots=True)
class PassthroughHandler:
    """Parses, calls `passthrough`, renders. Sizes in bytes, times in seconds.

    Whoever has no key, and whoever asks for what no provider has, hears what everybody hears: there is no such route.
    """

    passthrough: Passthrough
    in_flight_limiter: InFlightLimiter
    authenticator: Authenticator
    clock: Clock
    max_body: int
    body_timeout: float
    _unauthenticated_reads: dict[asyncio.Timeout, None] = field(default_factory=dict)
    _route: Route = field(init=False)

    def __post_init__(self) -> None:
        self._route = Route("*", "*", self.handle, "passthrough", requires_key=True, render_problem=render_problem)

    def fallback_route(self) -> Route:
        """What answers for paths without a route."""
        return Route("*", "*", self.handle, "unknown")

    async def handle(self, request: Request) -> web.StreamResponse:
        """Pass a request on for a client that may do that, and tell others that have a key how to be allowed."""
        path = normalize_path(request.rel_url.raw_path)
        if path is None or not (_SDK_PATHS(path) or self.passthrough.allows(request.method, path)):
            raise _unknown_route()
        key, body = await self._read_key(request)
        client = self.authenticator.client_of_key(key)
        if client is None:
            raise _unknown_route()
        request.client, request.client_name, request.route = client, client.name, self._route
        forward = self.in_flight_limiter.limit_in_flight(partial(self._forward, asked=_ParsedRequest(path, key, body)))
        return await forward(request)

    async def _read_key(self, request: Request) -> tuple[str, bytes | None]:
        """The key, and the body where that had to be read for it: the SDKs' older calls have `api_key` there alone."""
        key = presented_key(request)
        if key or request.method != "POST" or "json" not in request.headers.get("Content-Type", "").lower():
            return key, None
        body = await self._read_unauthenticated_body(request)
        return _key_from_body(body), body

    async def _read_unauthenticated_body(self, request: Request) -> bytes:
        """Read it; where there are too many such, the one that takes longest makes room: it is the least honest."""
        if len(self._unauthenticated_reads) >= _MAX_UNAUTHENTICATED_READS:
            slowest = next(iter(self._unauthenticated_reads))
            del self._unauthenticated_reads[slowest]
            slowest.reschedule(0)
        timeout = asyncio.timeout(None)
        self._unauthenticated_reads[timeout] = None
        try:
            async with timeout:
                return await self._read_body(request)
        except TimeoutError:
            raise Problem("overloaded", retry_after=1, headers=(("Connection", "close"),)) from None
        finally:
            self._unauthenticated_reads.pop(timeout, None)

    async def _read_body(self, request: Request) -> bytes:
        return await read_raw_body(request, max_bytes=self.max_body, timeout=self.body_timeout)

    async def _forward(self, request: Request, *, asked: _ParsedRequest) -> web.Response:
        provider = self.passthrough.find_provider(request.client_name, request.method, asked.path)
        if provider is None:
            raise Problem("forbidden", self._forbidden_detail(request.method, asked.path))
        body = await self._read_body(request) if asked.body is None else asked.body
        traceparent = read_traceparent(request.headers.getall("traceparent", ()), self.clock)
        headers = [(name, value) for name, value in request.headers.items() if name.lower() != "traceparent"]
        response = await self.passthrough.forward(
            request.client_name,
            provider,
            client_connected=request.connection_check(),
            method=request.method,
            path=asked.path,
            query=request.rel_url.raw_query_string,
            headers=(*headers, ("traceparent", traceparent)),
            body=body,
            client_key=asked.key,
        )
        response_headers = dict(response.headers)
        content_type = response_headers.pop("content-type", "application/octet-stream")
        return make_response(
            response.status,
            response.body,
            content_type,
            (*response_headers.items(), ("X-Content-Type-Options", "nosniff")),
        )

    def _forbidden_detail(self, method: str, path: str) -> str:
        if self.passthrough.starts_run(method, path):
            return "Runs have routes of their own, and are never passed through."
        sdk_path = _SDK_PATHS(path)
        route = f"{method} /{sdk_path[1]}{'/*' * (sdk_path[2] is not None)}" if sdk_path else "This"
        return f"{route} is not passed through: an operator must list it in clients.<name>.passthrough."


def render_problem(problem: Problem, _request: Request) -> web.Response:
    """Render a problem as PromptLayer does: its SDKs show `message` or `error`."""
    text = problem.detail or PROBLEMS[problem.code].title + "."
    fields = [("Runward-Problem", problem.code), *problem.headers]
    if problem.retry_after is not None:
        fields.append(("Retry-After", str(math.ceil(problem.retry_after))))
    body = strictjson.write({"success": False, "message": text, "error": text})
    return make_response(problem.status, body, JSON_CONTENT_TYPE, tuple(fields))


def _key_from_body(body: bytes) -> str:
    try:
        document = strictjson.read(body)
    except strictjson.NotJson:
        return ""
    key = document.get("api_key") if isinstance(document, dict) else None
    return key if isinstance(key, str) else ""


def _unknown_route() -> Problem:
    return Problem("unknown_route", "No route has this path.")
