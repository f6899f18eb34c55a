"""Admin API for runs: search over those of all clients, and one run with its timeline. Never with input or output."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from math import inf, nextafter
from typing import Protocol

from gateway.api.admin.run_search import RunQuery, parse_run_query
from gateway.api.run_search import next_cursor
from gateway.clock import Clock, format_rfc3339
from gateway.http.ops_authentication import team_of
from gateway.http.request import Request, Route
from gateway.http.response import Response, make_response
from gateway.json import strict_json
from gateway.problems import Problem
from gateway.runs.durable.codec import decode_details
from gateway.runs.record_rendering import operator_timeline, operator_view
from gateway.runs.rendering import JSON_CONTENT_TYPE
from gateway.store.records import IdempotencyRecord, RunOverview, RunPage
from gateway.store.run_filter import RunFilter

_VALID_RUN_ID = re.compile(r"[A-Za-z0-9_-]{1,64}").fullmatch


class RunStore(Protocol):
    """The part of `Store` that these handlers use. Every method may raise StoreUnavailable."""

    async def list_runs(self, run_filter: RunFilter) -> RunPage:
        """Runs of the filter, newest first."""

    async def get_overview(self, run_id: str) -> RunOverview | None:
        """A run without its input and output, or None."""

    async def get_timeline(self, run_id: str) -> bytes | None:
        """Lines of the timeline of a run, or None."""

    async def get_idempotency_record(self, client: str, text: str) -> IdempotencyRecord | None:
        """Record of a key, or None."""


@dataclass(frozen=True, slots=True)
class RunAdminHandlers:
    """Handlers for the operations port: they cover the runs of every client, or those of a viewer's team.

    StoreUnavailable becomes the problem `store_unavailable` in the `access_log` middleware.
    """

    store: RunStore
    clock: Clock

    def routes(self) -> list[Route]:
        """Routes of the handlers."""
        return [
            Route("GET", "/api/runs", self.list_runs, "api_runs", shows_team=True),
            Route("GET", "/api/runs/{id}", self.get_run, "api_runs", shows_team=True),
        ]

    async def list_runs(self, request: Request) -> Response:
        """Handle `GET /api/runs`: the runs that meet all conditions of the query, newest first, `limit` a page.

        `read_at`: the time before the search began. `complete`: False if it stopped at its bound.
        """
        query, read_at = parse_run_query(request.query, team_of(request)), self.clock.now()
        run_filter = query.run_filter if query.idempotency_key is None else await self.filter_of_key(query)
        page = RunPage([]) if run_filter is None else await self.store.list_runs(run_filter)
        document = {
            "runs": [operator_view(run) for run in page.runs],
            "next": None if query.idempotency_key is not None else next_cursor(page, query.run_filter),
            "complete": page.stopped_at is None,
            "read_at": format_rfc3339(read_at),
        }
        return make_response(200, strict_json.write(document), JSON_CONTENT_TYPE)

    async def get_run(self, request: Request) -> Response:
        """Handle `GET /api/runs/{id}`: the run as in the list, and its timeline."""
        run_id = request.path_param
        run = await self.store.get_overview(run_id) if _VALID_RUN_ID(run_id) else None
        if run is not None and not _may_show(run, team_of(request)):
            run = None
        lines = None if run is None else await self.store.get_timeline(run_id)
        if run is None or lines is None:
            raise Problem("not_found", "No run with this id is recorded.")
        document = {**operator_view(run), "timeline": operator_timeline(lines)}
        return make_response(200, strict_json.write(document), JSON_CONTENT_TYPE)

    async def filter_of_key(self, query: RunQuery) -> RunFilter | None:
        """Return the filter of the one run of the key that meets the conditions; None if there is no such run."""
        wanted = query.run_filter
        record = await self.store.get_idempotency_record(wanted.client or "", query.idempotency_key or "")
        run = None if record is None else await self.store.get_overview(record.run_id)
        if run is None or not run.id.startswith(wanted.id_prefix or ""):
            return None
        begin = max(run.created_at, -inf if wanted.created_from is None else wanted.created_from)
        end = min(nextafter(run.created_at, inf), inf if wanted.created_until is None else wanted.created_until)
        return None if begin >= end else replace(wanted, id_prefix=run.id, created_from=begin, created_until=end)


def _may_show(run: RunOverview, team: str | None) -> bool:
    """Return whether a viewer may see the run: of a team, only if the client was of that team when it asked for it."""
    return team is None or decode_details(run).get("team") == team
