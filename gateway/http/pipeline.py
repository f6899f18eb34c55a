"""Pipeline of every request: request id, authentication, load shedding, problem documents, access log, metrics."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network
from typing import cast

from gateway.auth.certificates import CertificateIndex
from gateway.auth.client import Client
from gateway.auth.failed_attempts import FailedAuthLimiter
from gateway.auth.keys import KeyRefusal, KeyRing
from gateway.auth.oidc.refusals import TokenRefusal
from gateway.auth.oidc.verifier import TokenVerifier, is_token
from gateway.auth.stored_keys.directory import DirectoryUnavailable, KeyDirectory
from gateway.clock import Clock
from gateway.errors import GatewayError
from gateway.http.access_log import AccessSampling, write_access_line
from gateway.http.forwarded import Networks, client_address, path_prefix
from gateway.http.headers import bearer_token, single_value
from gateway.http.problem_mapping import problem_from_error
from gateway.http.request import AnyResponse, Handler, Middleware, Request
from gateway.http.response import Response, problem_response
from gateway.http.traceparent import start_span
from gateway.observability import json_logging
from gateway.observability.logger_protocol import Logger
from gateway.observability.metrics import Metrics
from gateway.observability.tracing.spans import Tracer
from gateway.problems import Problem
from gateway.runs.model import RunRecord
from gateway.store.contract import ContentUnreadable, StoreUnavailable

_REQUEST_ID = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}").fullmatch
_CONTENT_UNREADABLE = "The content of this run cannot be decrypted with the keys that are configured."
_CONTENT_RETRY = 60.0  # seconds: an operator has to add the key
_KEYS_UNAVAILABLE = "Whether this key is valid is not known: the store of keys cannot be read."
_NO_KEYS = "The keys of the token's issuer could not be fetched for too long, so tokens cannot be verified."
_KEYS_RETRY = 15.0  # seconds
_CHALLENGE = (("WWW-Authenticate", 'Bearer realm="runward"'),)


@dataclass(frozen=True, slots=True)
class RequestPipeline:
    """Middleware of every route, in one pass: request id, authentication, load shedding, handler, log entry, metrics.

    A problem becomes the response's document at one place. `authenticate` raises Problem, or sets the client; what it
    returns is awaited.
    `in_flight_limiter` counts requests of routes with a key, before their body is read; while it is draining, every
    response is the last on its connection. `sampling`: of the access log; by default every line is written. `tracer`
    starts the span of a request whose key was accepted.
    """

    metrics: Metrics
    log: Logger
    clock: Clock
    authenticate: Callable[[Request], Awaitable[None] | None] | None = None
    in_flight_limiter: InFlightLimiter | None = None
    sampling: AccessSampling | None = None
    tracer: Tracer | None = None

    def __call__(self, inner: Handler) -> Handler:  # noqa: C901 - each function would be one more call per request
        """Return the handler with everything around `inner`."""
        monotonic, limiter, tracer = self.clock.monotonic, self.in_flight_limiter, self.tracer
        sampling = self.sampling or AccessSampling(self.clock)

        async def handle(request: Request) -> AnyResponse:
            started = monotonic()
            client_id = request.headers.get("X-Request-Id", "")
            request.request_id = client_id if _REQUEST_ID(client_id) else "req_" + self.clock.token(12).hex()
            status, code = 499, "client_closed_request"
            try:
                try:
                    if self.authenticate is not None and (pending := self.authenticate(request)) is not None:
                        await pending
                    if tracer is not None:
                        start_span(tracer, request, monotonic() - started)
                    if limiter is None or not request.route.requires_key:
                        response = await inner(request)
                    else:
                        task = limiter.enter(request)
                        try:
                            response = await inner(request)
                        except asyncio.CancelledError:
                            limiter.raise_if_cancelled(task)
                            raise
                        finally:
                            limiter.leave(request, task)
                    code = ""
                except Problem as problem:
                    response, code = self._handle_problem(problem, request), problem.code
                except Exception as error:  # noqa: BLE001 - the client gets a problem document for every exception
                    translated = _problem_of(error, request)
                    response, code = self._handle_problem(translated, request), translated.code
                status = response.status
                response.headers["X-Request-Id"] = request.request_id
                if limiter is not None and limiter.draining:
                    _close_connection(response)
                return response
            finally:
                self.metrics.request_ended(request.route.name, status)
                if request.span is not None:
                    request.span.end(status, code)
                if request.route.logged:
                    write_access_line(self.log, sampling, request, status, code, seconds=monotonic() - started)

        return handle

    def _handle_problem(self, problem: Problem, request: Request) -> Response:
        self.metrics.request_refused(request.client_name, problem.code)
        has_run = request.run is not None or "run_id" in problem.extra
        if request.route.starts_run and not has_run:  # a run is counted at its end
            self.metrics.run_error("", problem.code)
        if problem.code == "internal":
            described = json_logging.describe_exception(problem.__cause__)
            self.log.error("internal_error", request_id=request.request_id, **described)
        if request.route.render_problem is not None:
            response = request.route.render_problem(problem, request)
        else:
            response = problem_response(problem, request.request_id)
        if response.headers.get("Connection") == "close":
            response.closes = True
        return response


def _close_connection(response: AnyResponse) -> None:
    if isinstance(response, Response):
        response.closes = True
    else:  # aiohttp's force_close sends no `Connection: close`: the client would reuse a closing connection
        response.headers["Connection"] = "close"
        response.force_close()


def prefix_locations(trusted_proxies: Networks) -> Middleware:
    """Middleware: sets the path prefix of a request, and adds it to `Location`, which clients resolve at the proxy."""

    def around(inner: Handler) -> Handler:
        async def handle(request: Request) -> AnyResponse:
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
    if isinstance(error, ContentUnreadable) and request.run is None:
        return Problem("store_unavailable", _CONTENT_UNREADABLE, retry_after=_CONTENT_RETRY)
    if isinstance(error, StoreUnavailable) and request.run is None:
        return Problem("store_unavailable", retry_after=1)
    if isinstance(error, ConnectionError) and not request.connection_check()():
        return Problem("client_closed_request")
    problem = Problem("internal")
    problem.__cause__ = error
    return problem


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

    def limit_in_flight(self, inner: Handler) -> Handler:
        """Return a handler that counts its requests by client, and refuses those beyond the limit at once."""

        async def handle(request: Request) -> AnyResponse:
            task = self.enter(request)
            try:
                return await inner(request)
            except asyncio.CancelledError:
                self.raise_if_cancelled(task)
                raise
            finally:
                self.leave(request, task)

        return handle

    def enter(self, request: Request) -> asyncio.Task[object]:
        """Count a request; returns its task, for `leave`. Raises Problem (overloaded) beyond the limit."""
        client = request.client_name
        held = self._by_client.get(client, 0)
        if self.in_flight >= self.max_in_flight and not self._has_share_left(held):
            raise Problem(
                "overloaded",
                "This replica is at its limit of requests in progress.",
                retry_after=1,
                extra={"outcome": "not_run"},
            )
        task = request.serving_task or cast("asyncio.Task[object]", asyncio.current_task())
        self.in_flight += 1
        self._by_client[client] = held + 1
        self._requests[task] = request
        return task

    def raise_if_cancelled(self, task: asyncio.Task[object]) -> None:
        """Raise Problem (draining) if `cancel_runs` has cancelled the task."""
        if task in self._cancelled:
            task.uncancel()
            raise _draining_problem(self._cancelled[task]) from None

    def leave(self, request: Request, task: asyncio.Task[object]) -> None:
        """Count the end of a request."""
        self.in_flight -= 1
        if self._cancelled:
            self._cancelled.pop(task, None)
        del self._requests[task]
        client = request.client_name
        held = self._by_client[client] - 1
        if held:
            self._by_client[client] = held
        else:  # the number of clients with requests in progress counts
            del self._by_client[client]

    def _has_share_left(self, held: int) -> bool:
        """Return whether a client with `held` requests has less than its share while the limit is reached."""
        clients = len(self._by_client) + (held == 0)
        return held < self.max_in_flight // clients and self.in_flight < 2 * self.max_in_flight

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
    """Authenticates clients by gateway key or token; limits failed attempts by client address.

    A key of the configuration goes before those of `stored_keys`. Of both, clients are those of the configuration.
    """

    keys: KeyRing
    clients: Mapping[str, Client]
    failed_auth_limiter: FailedAuthLimiter
    trusted_proxies: Sequence[IPv4Network | IPv6Network]
    clock: Clock
    log: Logger
    certificates: CertificateIndex = field(default_factory=CertificateIndex)
    stored_keys: KeyDirectory | None = None
    tokens: TokenVerifier | None = None

    def reconfigure(
        self, keys: KeyRing, clients: Mapping[str, Client], certificates: CertificateIndex | None = None
    ) -> None:
        """Use these for subsequent requests; requests in progress are not affected."""
        self.keys, self.clients = keys, clients
        self.certificates = certificates or CertificateIndex()

    def find_client(self, name: str) -> Client | None:
        """Return a client of the current configuration by its name."""
        return self.clients.get(name)

    def authenticate(self, request: Request) -> Awaitable[None] | None:
        """Set the client of a request to a route with a key.

        Returns None; or, if the keys of a token's issuer are being fetched, what has to be awaited for it. Raises
        Problem: unauthorized, the same for every reason to refuse a key or a token; too_many_failures, forbidden,
        issuer_unavailable, and store_unavailable if it cannot be known whether a stored key is valid.
        """
        if not request.route.requires_key:
            return None
        key = presented_key(request)
        found = self._find_client(request, key)
        if self.tokens is not None and isinstance(found, TokenRefusal) and self.tokens.awaits_keys(key, found):
            return self._authenticate_later(request, key, found)
        self._accept(request, found)
        return None

    async def _authenticate_later(self, request: Request, key: str, refusal: TokenRefusal) -> None:
        await self.wait_for_keys(key, refusal)
        self._accept(request, self._find_client(request, key))

    def _accept(self, request: Request, found: Client | KeyRefusal | TokenRefusal) -> None:
        if not isinstance(found, Client):
            raise self._reject_key(found, request)
        request.client = found
        if found.addresses:
            self._check_address(request, found)
        request.client_name = found.name

    async def wait_for_keys(self, key: str, refusal: TokenRefusal | None = None) -> None:
        """Wait, for some seconds at most, if `key` is a token whose issuer's keys are being fetched."""
        if self.tokens is None or not is_token(key):
            return
        found = refusal or self.tokens.find(key)
        if isinstance(found, TokenRefusal) and self.tokens.awaits_keys(key, found):
            await self.tokens.wait_for_keys(key)

    def client_of(self, request: Request, key: str) -> Client | None:
        """Return the client of a key, or of the connection's certificate if there is no key; None if unknown.

        Raises Problem: forbidden, if the client may not connect from the request's address; issuer_unavailable, and
        store_unavailable as `authenticate`.
        """
        found = self._find_client(request, key)
        if found is TokenRefusal.KEYS_UNAVAILABLE:
            raise self._reject_key(found, request)
        if not isinstance(found, Client):
            return None
        self._check_address(request, found)
        return found

    def _find_client(self, request: Request, key: str) -> Client | KeyRefusal | TokenRefusal:
        """Find the client. A presented key decides alone, so that a wrong one is never overlooked."""
        if not key and self.certificates and request.transport is not None:
            name = self.certificates.find(request.transport.get_extra_info("peercert"))
            if name is not None:
                return self.clients[name]
        if self.tokens and is_token(key):
            named = self.tokens.find(key)
            return self.clients[named] if isinstance(named, str) else named
        now = self.clock.now()
        found = self.keys.find(key, now)
        if found.__class__ is str:  # no call, on the path of every request
            return self.clients[found]
        if found is not KeyRefusal.UNKNOWN or self.stored_keys is None:
            return cast("KeyRefusal", found)
        try:
            return self.stored_keys.find(key, now, self.clients)
        except DirectoryUnavailable as error:
            raise self._reject_undecided(request, known=error.known) from None

    def _reject_undecided(self, request: Request, *, known: bool) -> Problem:
        """Return the problem for a key that may be a valid stored one. Another one counts as a failed attempt."""
        address = client_address(request, self.trusted_proxies)
        retry_after = 0.0 if known else self.failed_auth_limiter.record(address)
        if retry_after:
            return _too_many_failures(retry_after)
        return Problem("store_unavailable", _KEYS_UNAVAILABLE, retry_after=1, extra={"outcome": "not_run"})

    def _check_address(self, request: Request, client: Client) -> None:
        if client.addresses:
            address = client_address(request, self.trusted_proxies)
            if not client.may_connect_from(address):
                self.log.info("address_refused", request_id=request.request_id, client=client.name, peer=address)
                raise Problem("forbidden", "This client may not connect from this address.")

    def _reject_key(self, reason: KeyRefusal | TokenRefusal, request: Request) -> Problem:
        address = client_address(request, self.trusted_proxies)
        key_id = None if self.stored_keys is None else self.stored_keys.id_of(presented_key(request))
        stored = {} if key_id is None else {"key_id": key_id}
        self.log.info("key_refused", request_id=request.request_id, why=reason.value, peer=address, **stored)
        if self.tokens is not None and isinstance(reason, TokenRefusal):
            self.tokens.count_refusal(reason)
        if reason is TokenRefusal.KEYS_UNAVAILABLE:
            return Problem("issuer_unavailable", _NO_KEYS, retry_after=_KEYS_RETRY, extra={"outcome": "not_run"})
        retry_after = self.failed_auth_limiter.record(address)
        if retry_after:
            return _too_many_failures(retry_after)
        return Problem("unauthorized", headers=_CHALLENGE)


def _too_many_failures(retry_after: float) -> Problem:
    detail = "Too many requests with invalid keys from this address."
    return Problem("too_many_failures", detail, retry_after=retry_after)


def presented_key(request: Request) -> str:
    """Key of `Authorization: Bearer`, else of `X-API-KEY` or the route's key headers. Empty if there is none."""
    headers = request.headers
    token = bearer_token(headers)
    if token:
        return token
    values = (single_value(headers, name) for name in ("X-API-KEY", *request.route.key_headers))
    return next(filter(None, values), "")
