"""Pipeline of every request: request id, authentication, load shedding, problem documents, access log, metrics."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import cast

from gateway.clock import Clock
from gateway.errors import GatewayError
from gateway.http.access_log import AccessSampling, write_access_line
from gateway.http.forwarded import Networks, path_prefix
from gateway.http.problem_mapping import problem_from_error
from gateway.http.request import AnyResponse, Handler, Middleware, Request
from gateway.http.response import Response, problem_response, set_request_id
from gateway.http.traceparent import start_span
from gateway.observability import json_logging
from gateway.observability.logger_protocol import Logger
from gateway.observability.metrics import Metrics
from gateway.observability.tracing.spans import Tracer
from gateway.problems import Problem
from gateway.runs.model import RunRecord
from gateway.store.contract import ContentUnreadable, StoreUnavailable

_CONTENT_UNREADABLE = "The content of this run cannot be decrypted with the keys that are configured."
_CONTENT_RETRY = 60.0  # seconds: an operator has to add the key


@dataclass(frozen=True, slots=True)
class RequestPipeline:
    """Middleware of every route, in one pass: request id, authentication, load shedding, handler, log entry, metrics.

    A problem becomes the response's document at one place. `authenticate` raises Problem, or sets the client; what it
    returns is awaited. `in_flight_limiter` counts requests of routes with a key, before their body is read; while it is
    draining, every response is the last on its connection. `sampling`: of the access log; by default every line is
    written. `tracer` starts the span of a request whose key was accepted.
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
            request.request_id = request.head.request_id or "req_" + self.clock.new_id()
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
                set_request_id(response, request.request_id)
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
