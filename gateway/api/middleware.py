"""What happens around every route: the request is named, counted, logged, let in. The order stands in `app`."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network
from typing import cast

from aiohttp import web
from structlog.typing import FilteringBoundLogger

from gateway import logs
from gateway.access.clients import Client
from gateway.access.keys import KeyRefusal, KeyRing
from gateway.access.strangers import Strangers
from gateway.api.peers import peer
from gateway.api.server import Handler, Middleware, Request
from gateway.api.wire import answer_problem
from gateway.clock import Clock
from gateway.metrics import Metrics
from gateway.problems import Problem
from gateway.runs.record import RunRecord

_REQUEST_ID = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}").fullmatch
_CHALLENGE = (("WWW-Authenticate", 'Bearer realm="runward"'),)


def observe(metrics: Metrics, log: FilteringBoundLogger, clock: Clock) -> Middleware:
    """Give the request its id, and write what became of it: one line, one count. Every problem becomes a document."""

    def around(inner: Handler) -> Handler:
        async def handle(request: Request) -> web.StreamResponse:
            began = clock.monotonic()
            given = request.headers.get("X-Request-Id", "")
            request.request_id = given if _REQUEST_ID(given) else "req_" + clock.token(12).hex()
            status, code = 499, "client_closed_request"
            try:
                try:
                    response = await inner(request)
                    code = ""
                except Problem as problem:
                    response, code = _refuse(problem, request, metrics, log), problem.code
                except Exception as mistake:  # noqa: BLE001 - whatever it is, the client gets a document
                    code = "internal"
                    response = _refuse(_internal(mistake), request, metrics, log)
                status = response.status
                response.headers["X-Request-Id"] = request.request_id
                return response
            finally:
                metrics.request_ended(request.route.name, status)
                if request.route.logged:
                    _write_line(log, request, status, code, clock.monotonic() - began)

        return handle

    return around


def _internal(mistake: Exception) -> Problem:
    problem = Problem("internal")
    problem.__cause__ = mistake
    return problem


def _refuse(problem: Problem, request: Request, metrics: Metrics, log: FilteringBoundLogger) -> web.Response:
    metrics.refused(request.client_name, problem.code)
    if problem.code == "internal":
        log.error("mistake", request_id=request.request_id, **logs.describe(problem.__cause__))
    response = (request.route.refuse or answer_problem)(problem, request)
    if response.headers.get("Connection") == "close":
        response.force_close()
    return response


def _write_line(log: FilteringBoundLogger, request: Request, status: int, code: str, seconds: float) -> None:
    run = request.run
    fields: dict[str, object] = {
        "request_id": request.request_id,
        "route": request.route.name,
        "client": request.client_name,
        "status": status,
        "ms": round(seconds * 1000, 3),
    }
    if code:
        fields["code"] = code
    if run is not None:
        fields |= {
            "run_id": run.id,
            "workflow": run.order.workflow,
            "provider": run.provider,
            "attempts": run.attempts,
            "outcome": run.status,
            "provider_run_id": run.provider_run_id,
            "face": run.order.face,
            "waited_ms": round(run.waited * 1000, 3),
        }
        if run.order.traceparent:
            fields["trace_id"] = run.order.traceparent[3:35]
    log.info("request", **fields)


@dataclass(slots=True)
class Doors:
    """Whether new work is let in, not beyond `limit` requests at once; and the word to clients while draining."""

    limit: int
    in_flight: int = 0
    draining: bool = False
    _inside: dict[asyncio.Task[object], Request] = field(default_factory=dict)
    _cut: dict[asyncio.Task[object], RunRecord] = field(default_factory=dict)

    def farewell(self, inner: Handler) -> Handler:
        """While draining, end each connection with its answer."""

        async def handle(request: Request) -> web.StreamResponse:
            response = await inner(request)
            if self.draining:
                # aiohttp's force_close alone closes without a word: the client would send into a closing connection.
                response.headers["Connection"] = "close"
                response.force_close()
            return response

        return handle

    def guard(self, inner: Handler) -> Handler:
        """Count keyed requests in and out, and refuse the surplus at once."""

        async def handle(request: Request) -> web.StreamResponse:
            if not request.route.keyed:
                return await inner(request)
            if self.in_flight >= self.limit:
                raise Problem(
                    "overloaded", "This replica is at its limit.", retry_after=1, extra={"outcome": "not_run"}
                )
            task = cast("asyncio.Task[object]", asyncio.current_task())
            self.in_flight += 1
            self._inside[task] = request
            try:
                return await inner(request)
            except asyncio.CancelledError:
                if task not in self._cut:
                    raise
                task.uncancel()
                raise _cut_short(self._cut[task]) from None
            finally:
                self.in_flight -= 1
                self._cut.pop(task, None)
                del self._inside[task]

        return handle

    def clear(self) -> None:
        """End every request that has a run, now: its client is told how far the run came.

        Of the others nothing can be told: what they ask for may be written down in this moment.
        """
        for task, request in self._inside.items():
            if request.run is not None and task not in self._cut:
                self._cut[task] = request.run
                task.cancel()


def _cut_short(run: RunRecord) -> Problem:
    """What is told of a run that is not waited for any longer: never more than its record knows."""
    ending = run.status if run.finished_at is not None else "unknown" if run.maybe_started else "not_run"
    outcome = ending if ending in {"not_run", "failed"} else "unknown"
    kept = run.journal is not None and outcome == "unknown"
    detail = "This replica shuts down." + " With the same Idempotency-Key, ask again." * kept
    known = {"provider_run_id": run.provider_run_id} if run.provider_run_id is not None else {}
    told = {"run_id": run.id, "provider": run.provider, "attempts": run.attempts, "outcome": outcome}
    return Problem("draining", detail, retry_after=1 if outcome == "not_run" else None, extra=told | known)


@dataclass(slots=True)
class Porter:
    """Knows the clients by their keys, and strangers by their addresses."""

    keys: KeyRing
    clients: Mapping[str, Client]
    strangers: Strangers
    trusted_proxies: Sequence[IPv4Network | IPv6Network]
    clock: Clock
    log: FilteringBoundLogger

    def reconfigure(self, keys: KeyRing, clients: Mapping[str, Client]) -> None:
        """Know these from the next request on; who is in already stays whoever it was."""
        self.keys, self.clients = keys, clients

    def authenticate(self, inner: Handler) -> Handler:
        """Find the client of a request to a keyed route. Whatever is wrong with a key, the answer is the same."""

        async def handle(request: Request) -> web.StreamResponse:
            if request.route.keyed:
                found = self.keys.find(presented_key(request), self.clock.now())
                if isinstance(found, KeyRefusal):
                    raise self._refusal(found, request)
                request.client = self.clients[found]
                request.client_name = found
            return await inner(request)

        return handle

    def recognise(self, key: str) -> Client | None:
        """The client of a key; None, and not a word about it, where it is nobody's."""
        found = self.keys.find(key, self.clock.now())
        return None if isinstance(found, KeyRefusal) else self.clients[found]

    def _refusal(self, why: KeyRefusal, request: Request) -> Problem:
        address = peer(request, self.trusted_proxies)
        self.log.info("key_refused", request_id=request.request_id, why=why.value, peer=address)
        wait = self.strangers.note(address)
        if wait:
            return Problem("too_many_failures", "Too many bad keys came from this address.", retry_after=wait)
        return Problem("unauthorized", headers=_CHALLENGE)


def presented_key(request: Request) -> str:
    """The key of `Authorization: Bearer`, or else of `X-API-KEY` or the route's own fields; "" where there is none."""
    scheme, _, key = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return key.strip()
    values = (request.headers.get(name, "").strip() for name in ("X-API-KEY", *request.route.key_headers))
    return next(filter(None, values), "")
