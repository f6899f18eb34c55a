"""Look-up of stored runs: `GET /runs/{id}` with long polling and server-sent events, timelines, and `GET /runs`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from multidict import MultiMapping

from gateway.api.run_events import EVENT_STREAM, RunEventStream
from gateway.api.run_search import next_cursor, parse_run_filter
from gateway.clock import Clock
from gateway.http.body import hold_stored
from gateway.http.headers import prefers_media_type
from gateway.http.request import AnyResponse, Request
from gateway.http.response import Response, make_response
from gateway.problems import Problem, invalid_parameter
from gateway.runs import rendering
from gateway.runs.durable.uncollected_results import ignore_result
from gateway.runs.record_rendering import client_timeline
from gateway.runs.run_reader import RunReader
from gateway.store.contract import Store
from gateway.store.records import Phase, RunOverview

MAX_WAIT = 50
"""Maximum of `?wait` in seconds: below the response time-out of common proxies, which is 60 s."""


def accepts_event_stream(headers: MultiMapping[str]) -> bool:
    """Return True if the response to `GET /runs/{id}` is a stream of events."""
    return "Accept" in headers and prefers_media_type(headers, EVENT_STREAM, rendering.JSON_CONTENT_TYPE)


@dataclass(frozen=True, slots=True)
class RunLookupHandlers:
    """Handlers for the client's own stored runs: with an Idempotency-Key, asynchronous, or polled on after a 504.

    `result_collected` is called with the id of a run before its result is returned. StoreUnavailable becomes the
    problem `store_unavailable` in the `access_log` middleware.
    """

    store: Store
    reader: RunReader
    clock: Clock
    is_draining: Callable[[], bool]
    result_collected: Callable[[str], Awaitable[None]] = ignore_result

    async def get_run(self, request: Request) -> AnyResponse:
        """Handle `GET /runs/{id}`. With `?wait=SECONDS`, respond when the run has ended or the time has passed.

        Raises Problem: client_closed_request, if the client disconnects while it waits.
        """
        run = self._require_own(request, await self.reader.find(request.path_param))
        if request.method == "GET" and accepts_event_stream(request.headers):
            return await RunEventStream(request, self.clock, self._render, self._next, self.is_draining).send(run)
        deadline = self.clock.monotonic() + _parse_wait(request.query.get("wait", "0"))
        is_connected = request.connection_check()
        while run.phase is not Phase.DONE and not self.is_draining():
            remaining = deadline - self.clock.monotonic()
            if remaining <= 0:
                break
            run = await self._next(request, run, remaining)
            if not is_connected():
                raise Problem("client_closed_request")
        return self._response(request, await self._render(run))

    async def list_runs(self, request: Request) -> AnyResponse:
        """Handle `GET /runs`: the runs that meet all conditions of the query, newest first, `limit` a page."""
        run_filter = parse_run_filter(request.query, request.client_name)
        page = await self.store.list_runs(run_filter)
        items = [await self.reader.list_item(run) for run in page.runs]
        following = next_cursor(page, run_filter)
        return self._response(request, rendering.run_page(items, following, complete=page.stopped_at is None))

    async def get_timeline(self, request: Request) -> AnyResponse:
        """Handle `GET /runs/{id}/timeline`: what happened to the run, in order."""
        run = self._require_own(request, await self.reader.find(request.path_param))
        lines = await self.store.get_timeline(run.id)
        if lines is None:
            raise _not_found()
        return self._response(request, client_timeline(run.id, lines))

    @staticmethod
    def _response(request: Request, body: bytes) -> Response:
        """Return the response. Raises Problem (overloaded) if the byte budget has no room until it is written."""
        hold_stored(request, len(body))
        return make_response(200, body, rendering.JSON_CONTENT_TYPE)

    def _require_own(self, request: Request, run: RunOverview | None) -> RunOverview:
        if run is None or run.client != request.client_name:
            raise _not_found()
        return run

    async def _next(self, request: Request, run: RunOverview, seconds: float) -> RunOverview:
        """Return the run after its next change, or after at most `seconds`. Raises Problem (not_found)."""
        return self._require_own(request, await self.reader.next_overview(run, seconds))

    async def _render(self, run: RunOverview) -> bytes:
        view = await self.reader.view(run)
        if view is None:
            raise _not_found()
        if run.phase is Phase.DONE and run.durable and run.callback_url is None:
            await self.result_collected(run.id)
        return view


def _not_found() -> Problem:
    return Problem("not_found", "The client has no run with this id.")


def _parse_wait(text: str) -> float:
    if not _is_number(text):
        raise invalid_parameter("wait", "must be a whole number of seconds")
    return min(float(text), MAX_WAIT)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 4
