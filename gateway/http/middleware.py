"""Middlewares of every route: request id, access log, load shedding, authentication. `app.main` sets their order."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network
from typing import cast

from aiohttp import web
from structlog.typing import FilteringBoundLogger

from gateway.auth.certificates import CertificateIndex
from gateway.auth.client import Client
from gateway.auth.failed_attempts import FailedAuthLimiter
from gateway.auth.keys import KeyRefusal, KeyRing
from gateway.clock import Clock
from gateway.errors import GatewayError
from gateway.http.forwarded import Networks, client_address, path_prefix
from gateway.http.headers import bearer_token, single_value
from gateway.http.problem_mapping import problem_from_error
from gateway.http.response import problem_response
from gateway.http.server import Handler, Middleware, Request
from gateway.observability import logs
from gateway.observability.metrics import Metrics
from gateway.problems import Problem
from gateway.runs.model import RunRecord
from gateway.store.contract import StoreUnavailable

_REQUEST_ID = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}").fullmatch
_CHALLENGE = (("WWW-Authenticate", 'Bearer realm="runward"'),)


def access_log(metrics: Metrics, log: FilteringBoundLogger, clock: Clock) -> Middleware:
    """Middleware: assigns the request id, renders problems, writes one log entry and counts one request."""

    def around(inner: Handler) -> Handler:
        async def handle(request: Request) -> web.StreamResponse:
            started = clock.monotonic()
            client_id = request.headers.get("X-Request-Id", "")
            request.request_id = client_id if _REQUEST_ID(client_id) else "req_" + clock.token(12).hex()
            status, code = 499, "client_closed_request"
            try:
                try:
                    response = await inner(request)
                    code = ""
                except Problem as problem:
                    response, code = _handle_problem(problem, request, metrics, log), problem.code
                except Exception as error:  # noqa: BLE001 - the client gets a problem document for every exception
                    translated = _problem_of(error, request)
                    response, code = _handle_problem(translated, request, metrics, log), translated.code
                status = response.status
                response.headers["X-Request-Id"] = request.request_id
                return response
            finally:
                metrics.request_ended(request.route.name, status)
                if request.route.logged:
                    _write_log_entry(log, request, status, code, clock.monotonic() - started)

        return handle

    return around


def prefix_locations(trusted_proxies: Networks) -> Middleware:
    """Middleware: sets the path prefix of a request, and adds it to `Location`, which clients resolve at the proxy."""

    def around(inner: Handler) -> Handler:
        async def handle(request: Request) -> web.StreamResponse:
            request.path_prefix = path_prefix(request, trusted_proxies)
            response = await inner(request)
            location = response.headers.get("Location")
            if request.path_prefix and location is not None and location.startswith("/"):
                response.headers["Location"] = request.path_prefix + location
            return response

        return handle

    return around


def _problem_of(error: Exception, request: Request) -> Problem:
    """Problem of a typed error, or of an exception that no handler translated.

    A connection error after the client has disconnected comes from writing the response. With a run, an unexpected
    exception is not retryable: the run may have been started.
    """
    if isinstance(error, GatewayError):
        return problem_from_error(error)
    if isinstance(error, StoreUnavailable) and request.run is None:
        return Problem("store_unavailable", retry_after=1)
    if isinstance(error, ConnectionError) and not request.connection_check()():
        return Problem("client_closed_request")
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
    """Load shedding and graceful shutdown: refuses requests over `max_in_flight`, closes connections while draining.

    A client that holds less than its share, `max_in_flight` divided by the clients with requests in progress, is served
    although the others hold everything, until there are twice `max_in_flight` requests. So one client cannot keep the
    others out, whatever its requests wait for: a run, a long poll, an event stream or the rest of a body.
    """

    max_in_flight: int
    in_flight: int = 0
    draining: bool = False
    _requests: dict[asyncio.Task[object], Request] = field(default_factory=dict)
    _cancelled: dict[asyncio.Task[object], RunRecord] = field(default_factory=dict)
    _by_client: dict[str, int] = field(default_factory=dict)

    def close_when_draining(self, inner: Handler) -> Handler:
        """Middleware: while draining, close each connection after its response."""

        async def handle(request: Request) -> web.StreamResponse:
            response = await inner(request)
            if self.draining:
                # aiohttp's force_close sends no `Connection: close`: the client would reuse a closing connection.
                response.headers["Connection"] = "close"
                response.force_close()
            return response

        return handle

    def limit_in_flight(self, inner: Handler) -> Handler:
        """Middleware: count requests of routes with a key by client, and refuse those beyond the limit at once."""

        async def handle(request: Request) -> web.StreamResponse:
            if not request.route.requires_key:
                return await inner(request)
            client = request.client_name
            held = self._by_client.get(client, 0)
            if self.in_flight >= self.max_in_flight and not self._has_share_left(held):
                raise Problem(
                    "overloaded",
                    "This replica is at its limit of requests in progress.",
                    retry_after=1,
                    extra={"outcome": "not_run"},
                )
            task = cast("asyncio.Task[object]", asyncio.current_task())
            self.in_flight += 1
            self._by_client[client] = held + 1
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
                self._release_share(client)

        return handle

    def _has_share_left(self, held: int) -> bool:
        """Return whether a client with `held` requests has less than its share while the limit is reached."""
        clients = len(self._by_client) + (held == 0)
        return held < self.max_in_flight // clients and self.in_flight < 2 * self.max_in_flight

    def _release_share(self, client: str) -> None:
        held = self._by_client[client] - 1
        if held:
            self._by_client[client] = held
        else:  # the number of clients with requests in progress counts
            del self._by_client[client]

    def cancel_runs(self) -> None:
        """Cancel every request with a run. Its client gets the problem `draining` with the outcome known so far.

        Requests without a run continue: their run may be in the course of being stored, so its outcome is not known.
        """
        for task, request in self._requests.items():
            if request.run is not None and task not in self._cancelled:
                self._cancelled[task] = request.run
                task.cancel()


def _draining_problem(run: RunRecord) -> Problem:
    """Problem for a run whose request was cancelled. The outcome is what its record proves, else `unknown`."""
    status = run.status if run.finished_at is not None else "unknown" if run.maybe_started else "not_run"
    outcome = status if status in {"not_run", "failed"} else "unknown"
    durable = run.durable and outcome == "unknown"
    detail = "This replica is shutting down." + " Repeat the request with the same Idempotency-Key." * durable
    provider_fields = {"provider_run_id": run.provider_run_id} if run.provider_run_id is not None else {}
    run_fields = {"run_id": run.id, "provider": run.provider, "attempts": run.attempts, "outcome": outcome}
    return Problem(
        "draining", detail, retry_after=1 if outcome == "not_run" else None, extra=run_fields | provider_fields
    )


@dataclass(slots=True)
class Authenticator:
    """Authenticates clients by gateway key; limits failed attempts by client address."""

    keys: KeyRing
    clients: Mapping[str, Client]
    failed_auth_limiter: FailedAuthLimiter
    trusted_proxies: Sequence[IPv4Network | IPv6Network]
    clock: Clock
    log: FilteringBoundLogger
    certificates: CertificateIndex = field(default_factory=CertificateIndex)

    def reconfigure(
        self, keys: KeyRing, clients: Mapping[str, Client], certificates: CertificateIndex | None = None
    ) -> None:
        """Use these for subsequent requests; requests in progress are not affected."""
        self.keys, self.clients = keys, clients
        self.certificates = certificates or CertificateIndex()

    def authenticate(self, inner: Handler) -> Handler:
        """Middleware: set the client of a request. The response is the same for every reason to refuse a key."""

        async def handle(request: Request) -> web.StreamResponse:
            if request.route.requires_key:
                found = self._find_client(request, presented_key(request))
                if isinstance(found, KeyRefusal):
                    raise self._reject_key(found, request)
                request.client = client = self.clients[found]
                if client.addresses:
                    self._check_address(request, found)
                request.client_name = found
            return await inner(request)

        return handle

    def client_of(self, request: Request, key: str) -> Client | None:
        """Return the client of a key, or of the connection's certificate if there is no key; None if unknown.

        Raises Problem: forbidden, if the client may not connect from the request's address.
        """
        found = self._find_client(request, key)
        if isinstance(found, KeyRefusal):
            return None
        self._check_address(request, found)
        return self.clients[found]

    def _find_client(self, request: Request, key: str) -> str | KeyRefusal:
        """Name of the client. A presented key decides alone, so that a wrong one is never overlooked."""
        if not key and self.certificates and request.transport is not None:
            name = self.certificates.find(request.transport.get_extra_info("peercert"))
            if name is not None:
                return name
        return self.keys.find(key, self.clock.now())

    def _check_address(self, request: Request, name: str) -> None:
        client = self.clients[name]
        if client.addresses:
            address = client_address(request, self.trusted_proxies)
            if not client.may_connect_from(address):
                self.log.info("address_refused", request_id=request.request_id, client=name, peer=address)
                raise Problem("forbidden", "This client may not connect from this address.")

    def _reject_key(self, reason: KeyRefusal, request: Request) -> Problem:
        address = client_address(request, self.trusted_proxies)
        self.log.info("key_refused", request_id=request.request_id, why=reason.value, peer=address)
        retry_after = self.failed_auth_limiter.record(address)
        if retry_after:
            return Problem(
                "too_many_failures",
                "Too many requests with invalid keys from this address.",
                retry_after=retry_after,
            )
        return Problem("unauthorized", headers=_CHALLENGE)


def presented_key(request: Request) -> str:
    """Key of `Authorization: Bearer`, else of `X-API-KEY` or the route's key headers. Empty if there is none."""
    headers = request.headers
    values = (single_value(headers, name) for name in ("X-API-KEY", *request.route.key_headers))
    return bearer_token(headers) or next(filter(None, values), "")
