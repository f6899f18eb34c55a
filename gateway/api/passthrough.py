"""What no route is for: a provider's other endpoints, passed through where the configuration lists them."""

from __future__ import annotations

import asyncio
import math
import re
from dataclasses import dataclass, field
from functools import partial

from aiohttp import web

from gateway import strictjson
from gateway.api.middleware import Doors, Porter, presented_key
from gateway.api.server import Request, Route
from gateway.api.tracing import read_traceparent
from gateway.api.wire import answer, read_anything
from gateway.clock import Clock
from gateway.passages import normal, starts_run
from gateway.problems import PROBLEMS, Problem
from gateway.runs.answers import JSON
from gateway.runs.passthrough import Passthrough

# What the official SDKs call beside workflows: an app on one of them is told how to be let through.
_KNOWN = re.compile(
    r"/(prompt-templates|rest|library-[a-z-]+|track-[a-z-]+|create-group|log-request|workflows|spans-bulk|v1/traces"
    r"|api/public|api/v1/completion)(/.*)?"
).fullmatch
_MOST_BLIND = 32  # bodies that are read at once to see whose they are, because no header says so


@dataclass(frozen=True, slots=True)
class _Asked:
    """What a client wants to be passed on. `body` is None where it is still to be read."""

    path: str
    key: str
    body: bytes | None


@dataclass(slots=True)
class PassthroughFace:
    """Parses, calls `passthrough`, renders. Sizes in bytes, times in seconds.

    Whoever has no key, and whoever asks for what no provider has, hears what everybody hears: there is no such route.
    """

    passthrough: Passthrough
    doors: Doors
    porter: Porter
    clock: Clock
    max_body: int
    body_timeout: float
    _blind: dict[asyncio.Timeout, None] = field(default_factory=dict)
    _route: Route = field(init=False)

    def __post_init__(self) -> None:
        self._route = Route("*", "*", self.answer, "passthrough", keyed=True, refuse=refuse)

    def otherwise(self) -> Route:
        """What answers for paths without a route."""
        return Route("*", "*", self.answer, "unknown")

    async def answer(self, request: Request) -> web.StreamResponse:
        """Pass a request on for a client that may do that, and tell others that have a key how to be allowed."""
        path = normal(request.rel_url.raw_path)
        if path is None or not (_KNOWN(path) or self.passthrough.has(request.method, path)):
            raise _unknown()
        key, body = await self._presented(request)
        client = self.porter.recognise(key)
        if client is None:
            raise _unknown()
        request.client, request.client_name, request.route = client, client.name, self._route
        carry = self.doors.guard(partial(self._carry, asked=_Asked(path, key, body)))
        return await carry(request)

    async def _presented(self, request: Request) -> tuple[str, bytes | None]:
        """The key, and the body where that had to be read for it: the SDKs' older calls have `api_key` there alone."""
        key = presented_key(request)
        if key or request.method != "POST" or "json" not in request.headers.get("Content-Type", "").lower():
            return key, None
        body = await self._body_of_anybody(request)
        return _key_in(body), body

    async def _body_of_anybody(self, request: Request) -> bytes:
        """Read it; where there are too many such, the one that takes longest makes room: it is the least honest."""
        if len(self._blind) >= _MOST_BLIND:
            longest = next(iter(self._blind))
            del self._blind[longest]
            longest.reschedule(0)
        turn = asyncio.timeout(None)
        self._blind[turn] = None
        try:
            async with turn:
                return await self._body(request)
        except TimeoutError:
            raise Problem("overloaded", retry_after=1, headers=(("Connection", "close"),)) from None
        finally:
            self._blind.pop(turn, None)

    async def _body(self, request: Request) -> bytes:
        return await read_anything(request, limit=self.max_body, seconds=self.body_timeout)

    async def _carry(self, request: Request, *, asked: _Asked) -> web.Response:
        provider = self.passthrough.provider(request.client_name, request.method, asked.path)
        if provider is None:
            raise Problem("forbidden", _how_to_be_allowed(request.method, asked.path))
        body = await self._body(request) if asked.body is None else asked.body
        trace = read_traceparent(request.headers.getall("traceparent", ()), self.clock)
        fields = [(name, value) for name, value in request.headers.items() if name.lower() != "traceparent"]
        returned = await self.passthrough.carry(
            request.client_name,
            provider,
            wanted=request.is_awaited(),
            method=request.method,
            path=asked.path,
            query=request.rel_url.raw_query_string,
            headers=(*fields, ("traceparent", trace)),
            body=body,
            client_key=asked.key,
        )
        kept = dict(returned.headers)
        kind = kept.pop("content-type", "application/octet-stream")
        return answer(returned.status, returned.body, kind, (*kept.items(), ("X-Content-Type-Options", "nosniff")))


def refuse(problem: Problem, _request: Request) -> web.Response:
    """Render a problem as PromptLayer does: its SDKs show `message` or `error`."""
    text = problem.detail or PROBLEMS[problem.code].title + "."
    fields = [("Runward-Problem", problem.code), *problem.headers]
    if problem.retry_after is not None:
        fields.append(("Retry-After", str(math.ceil(problem.retry_after))))
    body = strictjson.write({"success": False, "message": text, "error": text})
    return answer(problem.status, body, JSON, tuple(fields))


def _how_to_be_allowed(method: str, path: str) -> str:
    if starts_run(path):
        return "Runs have routes of their own, and are never passed through."
    known = _KNOWN(path)
    what = f"{method} /{known[1]}{'/*' * (known[2] is not None)}" if known else "This"
    return f"{what} is not passed through: an operator must list it in clients.<name>.passthrough."


def _key_in(body: bytes) -> str:
    try:
        document = strictjson.read(body)
    except strictjson.NotJson:
        return ""
    key = document.get("api_key") if isinstance(document, dict) else None
    return key if isinstance(key, str) else ""


def _unknown() -> Problem:
    return Problem("unknown_route", "No route has this path.")
