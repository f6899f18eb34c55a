"""Pass-through of a provider's other endpoints, for paths that the configuration lists."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass, field
from functools import partial

from aiohttp import web

from gateway import strict_json
from gateway.clock import Clock
from gateway.http.body import read_raw_body
from gateway.http.headers import content_type
from gateway.http.middleware import Authenticator, InFlightLimiter, presented_key
from gateway.http.response import make_response, problem_headers
from gateway.http.server import Request, Route
from gateway.http.traceparent import read_traceparent
from gateway.passthrough_rules import normalize_path
from gateway.problems import Problem
from gateway.runs.passthrough import Passthrough
from gateway.runs.rendering import JSON_CONTENT_TYPE

# Paths of the official SDKs: for these, the problem names the setting that permits them.
_SDK_PATHS = re.compile(
    r"/(prompt-templates|rest|library-[a-z-]+|track-[a-z-]+|create-group|log-request|workflows|spans-bulk|v1/traces"
    r"|reports|prompts|prompt-labels|datasets|dataset-groups|folders"
    r"|api/public|api/v1/completion)(/.*)?"
).fullmatch
_MAX_UNAUTHENTICATED_READS = 32  # concurrent reads of bodies that carry the key in place of a header


@dataclass(frozen=True, slots=True)
class _ParsedRequest:
    """Parsed request. `body` is None if it has not been read yet."""

    path: str
    key: str
    body: bytes | None


@dataclass(slots=True)
class PassthroughHandler:
    """Handler for paths without a route. `max_body` in bytes, `body_timeout` in seconds.

    Without a valid key, and for unknown paths, the response is 404 `unknown_route`: listed paths are not disclosed.
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
        """Route for paths without a route."""
        return Route("*", "*", self.handle, "unknown")

    async def handle(self, request: Request) -> web.StreamResponse:
        """Forward a permitted request. Otherwise a client with a valid key gets 403 that names the missing setting."""
        path = normalize_path(request.rel_url.raw_path)
        if path is None or not (_SDK_PATHS(path) or self.passthrough.allows(request.method, path)):
            raise _unknown_route()
        key, body = await self._read_key(request)
        client = self.authenticator.client_of(request, key)
        if client is None:
            raise _unknown_route()
        request.client, request.client_name, request.route = client, client.name, self._route
        forward = self.in_flight_limiter.limit_in_flight(partial(self._forward, parsed=_ParsedRequest(path, key, body)))
        return await forward(request)

    async def handle_authenticated(self, request: Request) -> web.StreamResponse:
        """Forward a request of an authenticated client that its own route does not serve, or refuse it as `handle`."""
        path = normalize_path(request.rel_url.raw_path)
        if path is None:
            raise _unknown_route()
        return await self._forward(request, parsed=_ParsedRequest(path, presented_key(request), None))

    async def _read_key(self, request: Request) -> tuple[str, bytes | None]:
        """Key, and the body if it had to be read for it: older calls of the SDKs send `api_key` in the body only."""
        key = presented_key(request)
        if key or request.method != "POST" or not _has_json_body(request):
            return key, None
        body = await self._read_unauthenticated_body(request)
        return _key_from_body(body), body

    async def _read_unauthenticated_body(self, request: Request) -> bytes:
        """Read the body. If too many are being read, the slowest upload is aborted (slow-loris protection)."""
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

    async def _forward(self, request: Request, *, parsed: _ParsedRequest) -> web.Response:
        provider = self.passthrough.find_provider(request.client_name, request.method, parsed.path)
        if provider is None:
            raise Problem("forbidden", self._forbidden_detail(request.method, parsed.path))
        body = await self._read_body(request) if parsed.body is None else parsed.body
        traceparent = read_traceparent(request.headers.getall("traceparent", ()), self.clock)
        headers = [(name, value) for name, value in request.headers.items() if name.lower() != "traceparent"]
        response = await self.passthrough.forward(
            request.client_name,
            provider,
            client_connected=request.connection_check(),
            method=request.method,
            path=parsed.path,
            query=request.rel_url.raw_query_string,
            headers=(*headers, ("traceparent", traceparent)),
            body=body,
            client_key=parsed.key,
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
            return "Paths that start runs are never passed through: use the routes for runs."
        sdk_path = _SDK_PATHS(path)
        if path.startswith("/workflows/") and method != "GET":  # a prefix would include starts
            return f"{method} {path} is not passed through: an operator must list it in clients.<name>.passthrough."
        route = f"{method} /{sdk_path[1]}{'/*' * (sdk_path[2] is not None)}" if sdk_path else "This"
        return f"{route} is not passed through: an operator must list it in clients.<name>.passthrough."


def render_problem(problem: Problem, _request: Request) -> web.Response:
    """Render a problem in PromptLayer's format: its SDKs show `message` or `error`."""
    body = strict_json.write({"success": False, "message": problem.text, "error": problem.text})
    headers = (("Runward-Problem", problem.code), *problem_headers(problem))
    return make_response(problem.status, body, JSON_CONTENT_TYPE, headers)


def _has_json_body(request: Request) -> bool:
    media_type = content_type(request.headers).value
    return media_type == JSON_CONTENT_TYPE or media_type.endswith("+json")


def _key_from_body(body: bytes) -> str:
    try:
        document = strict_json.read(body)
    except strict_json.NotJson:
        return ""
    key = document.get("api_key") if isinstance(document, dict) else None
    return key if isinstance(key, str) else ""


def _unknown_route() -> Problem:
    return Problem("unknown_route", "No route matches this path.")
