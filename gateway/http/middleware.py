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

from gateway.auth.client import Client
from gateway.auth.failed_attempts import FailedAuthLimiter
from gateway.auth.keys import KeyRefusal, KeyRing
from gateway.clock import Clock
from gateway.http.body import problem_response
from gateway.http.forwarded import client_address
from gateway.http.server import Handler, Middleware, Request
from gateway.observability import logs
from gateway.observability.metrics import Metrics
from gateway.problems import Problem
from gateway.runs.model import RunRecord

_REQUEST_ID = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}").fullmatch
_CHALLENGE = (("WWW-Authenticate", 'Bearer realm="runward"'),)


def access_log(metrics: Metrics, log: FilteringBoundLogger, clock: Clock) -> Middleware:
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
                    response, code = _handle_problem(problem, request, metrics, log), problem.code
                except Exception as mistake:  # noqa: BLE001 - whatever it is, the client gets a document
                    code = "internal"
                    response = _handle_problem(_internal_problem(mistake), request, metrics, log)
                status = response.status
                response.headers["X-Request-Id"] = request.request_id
                return response
            finally:
                metrics.request_ended(request.route.name, status)
                if request.route.logged:
                    _write_log_entry(log, request, status, code, clock.monotonic() - began)

        return handle

    return around


def _internal_problem(error: Exception) -> Problem:
    problem = Problem("internal")
    problem.__cause__ = error
    return problem


def _handle_problem(problem: Problem, request: Request, metrics: Metrics, log: FilteringBoundLogger) -> web.Response:
    metrics.request_refused(request.client_name, problem.code)
    if problem.code == "internal":
        log.error("internal_error", request_id=request.request_id, **logs.describe_exception(problem.__cause__))
    response = (request.route.render_problem or problem_response)(problem, request)
    if response.headers.get("Connection") == "close":
        response.force_close()
    return response


def _write_log_entry(log: FilteringBoundLogger, request: Request, status: int, code: str, seconds: float) -> None:
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
            "workflow": run.spec.workflow,
            "provider": run.provider,
            "attempts": run.attempts,
            "outcome": run.status,
            "provider_run_id": run.provider_run_id,
            "api": run.spec.api,
            "waited_ms": round(run.external_wait * 1000, 3),
        }
        if run.spec.traceparent:
            fields["trace_id"] = run.spec.traceparent[3:35]
    log.info("request", **fields)


@dataclass(slots=True)
class InFlightLimiter:
    """Whether new work is let in, not beyond `limit` requests at once; and the word to clients while draining."""

    max_in_flight: int
    in_flight: int = 0
    draining: bool = False
    _requests: dict[asyncio.Task[object], Request] = field(default_factory=dict)
    _cancelled: dict[asyncio.Task[object], RunRecord] = field(default_factory=dict)

    def close_when_draining(self, inner: Handler) -> Handler:
        """While draining, end each connection with its answer."""

        async def handle(request: Request) -> web.StreamResponse:
            response = await inner(request)
            if self.draining:
                # aiohttp's force_close alone closes without a word: the client would send into a closing connection.
                response.headers["Connection"] = "close"
                response.force_close()
            return response

        return handle

    def limit_in_flight(self, inner: Handler) -> Handler:
        """Count keyed requests in and out, and refuse the surplus at once."""

        async def handle(request: Request) -> web.StreamResponse:
            if not request.route.requires_key:
                return await inner(request)
            if self.in_flight >= self.max_in_flight:
                raise Problem(
                    "overloaded", "This replica is at its limit of requests in progress.", retry_after=1, extra={"outcome": "not_run"}
                )
            task = cast("asyncio.Task[object]", asyncio.current_task())
            self.in_flight += 1
            self._requests[task] = request
            try:
                return await inner(request)
            except asyncio.CancelledError:
                if task not in self._cancelled:
                    raise
                task.uncancel()
                raise _draining_problem(self._cancelled[task]) from None
            finally:
                self.in_flight -= 1
                self._cancelled.pop(task, None)
                del self._requests[task]

        return handle

    def cancel_runs(self) -> None:
        """End every request that has a run, now: its client is told how far the run came.

        Of the others nothing can be told: what they ask for may be written down in this moment.
        """
        for task, request in self._requests.items():
            if request.run is not None and task not in self._cancelled:
                self._cancelled[task] = request.run
                task.cancel()


def _draining_problem(run: RunRecord) -> Problem:
    """What is told of a run that is not waited for any longer: never more than its record knows."""
    status = run.status if run.finished_at is not None else "unknown" if run.maybe_started else "not_run"
    outcome = status if status in {"not_run", "failed"} else "unknown"
    durable = run.journal is not None and outcome == "unknown"
    detail = "This replica is shutting down." + " Repeat the request with the same Idempotency-Key." * durable
    provider_fields = {"provider_run_id": run.provider_run_id} if run.provider_run_id is not None else {}
    run_fields = {"run_id": run.id, "provider": run.provider, "attempts": run.attempts, "outcome": outcome}
    return Problem(
        "draining", detail, retry_after=1 if outcome == "not_run" else None, extra=run_fields | provider_fields
    )


@dataclass(slots=True)
class Authenticator:
    """Knows the clients by their keys, and strangers by their addresses."""

    keys: KeyRing
    clients: Mapping[str, Client]
    failed_auth_limiter: FailedAuthLimiter
    trusted_proxies: Sequence[IPv4Network | IPv6Network]
    clock: Clock
    log: FilteringBoundLogger

    def reconfigure(self, keys: KeyRing, clients: Mapping[str, Client]) -> None:
        """Know these from the next request on; who is in already stays whoever it was."""
        self.keys, self.clients = keys, clients

    def authenticate(self, inner: Handler) -> Handler:
        """Find the client of a request to a keyed route. Whatever is wrong with a key, the answer is the same."""

        async def handle(request: Request) -> web.StreamResponse:
            if request.route.requires_key:
                found = self.keys.find(presented_key(request), self.clock.now())
                if isinstance(found, KeyRefusal):
                    raise self._reject_key(found, request)
                request.client = self.clients[found]
                request.client_name = found
            return await inner(request)

        return handle

    def client_of_key(self, key: str) -> Client | None:
        """The client of a key; None, and not a word about it, where it is nobody's."""
        name_or_refusal = self.keys.find(key, self.clock.now())
        return None if isinstance(name_or_refusal, KeyRefusal) else self.clients[name_or_refusal]

    def _reject_key(self, reason: KeyRefusal, request: Request) -> Problem:
        address = client_address(request, self.trusted_proxies)
        self.log.info("key_refused", request_id=request.request_id, why=reason.value, peer=address)
        retry_after = self.failed_auth_limiter.record(address)
        if retry_after:
            return Problem("too_many_failures", "Too many requests with an invalid key came from this address.", retry_after=retry_after)
        return Problem("unauthorized", headers=_CHALLENGE)


def presented_key(request: Request) -> str:
    """The key of `Authorization: Bearer`, or else of `X-API-KEY` or the route's own fields; "" where there is none."""
    scheme, _, key = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return key.strip()
    values = (request.headers.get(name, "").strip() for name in ("X-API-KEY", *request.route.key_headers))
    return next(filter(None, values), "")
