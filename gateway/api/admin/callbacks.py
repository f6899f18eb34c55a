"""Admin API for callbacks: list runs by callback state (such as the dead letters `gave_up`), and deliver one again."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Protocol

from gateway.api.admin.cross_site import refuse_cross_site
from gateway.clock import Clock
from gateway.http.ops_authentication import actor_fields
from gateway.http.request import Request, Route
from gateway.http.response import Response, make_response
from gateway.json import strict_json
from gateway.observability.logger_protocol import Logger
from gateway.problems import Problem, invalid_parameter
from gateway.runs.callbacks.dispatcher import CALLBACK_STATES, GAVE_UP
from gateway.runs.rendering import JSON_CONTENT_TYPE

PAGE_SIZE = 100
RUN_ID_PATTERN = "^[A-Za-z0-9_-]{0,64}$"
_VALID_RUN_ID = re.compile(RUN_ID_PATTERN).fullmatch


class CallbackStore(Protocol):
    """The part of `Store` that these handlers use."""

    async def list_by_callback_state(self, state: str, *, limit: int, after: str = "") -> list[str]:
        """Ids of up to `limit` runs with this callback state, after the id `after`. Raises StoreUnavailable."""

    async def redeliver_callback(self, run_id: str, *, now_at: float) -> bool:
        """Make the callback due at `now_at`; False if the run has none. Raises StoreUnavailable."""


@dataclass(frozen=True, slots=True)
class CallbackAdminHandlers:
    """Handlers for the operations port: they cover the runs of every client.

    StoreUnavailable becomes the problem `store_unavailable` in the `access_log` middleware.
    """

    store: CallbackStore
    clock: Clock
    log: Logger

    def routes(self) -> list[Route]:
        """Routes of the handlers."""
        return [
            Route("GET", "/callbacks", self.list_callbacks, "callbacks"),
            Route("POST", "/callbacks/replay/{id}", self.replay, "callbacks", action="callbacks.redeliver"),
        ]

    async def list_callbacks(self, request: Request) -> Response:
        """Handle `GET /callbacks?state=…&after=…`: a page of 100 run ids, and `next`, the `after` of the next page."""
        state, after = request.query.get("state", GAVE_UP), request.query.get("after", "")
        if state not in CALLBACK_STATES:
            raise invalid_parameter("state", "must be one of " + ", ".join(CALLBACK_STATES))
        if not _VALID_RUN_ID(after):
            raise invalid_parameter("after", "must be `next` of an earlier response")
        runs = await self.store.list_by_callback_state(state, limit=PAGE_SIZE, after=after)
        next_after = runs[-1] if len(runs) == PAGE_SIZE else None
        return make_response(200, strict_json.write({"runs": runs, "next": next_after}), JSON_CONTENT_TYPE)

    async def replay(self, request: Request) -> Response:
        """Handle `POST /callbacks/replay/{id}`: the callback is due now, and its delivery schedule starts again."""
        refuse_cross_site(request, body="the body may be empty")
        run_id = request.path_param
        now_at = self.clock.now().timestamp()
        if not _VALID_RUN_ID(run_id) or not await self.store.redeliver_callback(run_id, now_at=now_at):
            raise Problem("not_found", "No finished run with this id has a callback.")
        self.log.info("callback_replayed", run_id=run_id, **actor_fields(request))
        return make_response(
            202, strict_json.write({"id": run_id, "callback": {"state": CALLBACK_STATES[0]}}), JSON_CONTENT_TYPE
        )
