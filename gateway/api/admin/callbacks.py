"""The face for operators whose receivers were away: which callbacks were given up, and deliver one again."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Protocol

from aiohttp import web
from structlog.typing import FilteringBoundLogger

from gateway import strictjson
from gateway.clock import Clock
from gateway.http.body import make_response
from gateway.http.server import Request, Route
from gateway.problems import FieldError, Problem
from gateway.runs.callbacks.dispatcher import CALLBACK_STATES, GAVE_UP
from gateway.runs.rendering import JSON_CONTENT_TYPE
from gateway.store.contract import StoreUnavailable

_PAGE_SIZE = 100
_VALID_RUN_ID = re.compile(r"[A-Za-z0-9_-]{0,64}").fullmatch


class CallbackStore(Protocol):
    """As much of a `Store` as is needed here."""

    async def list_by_callback_state(self, state: str, *, limit: int, after: str = "") -> list[str]:
        """See `Store.called_back`."""

    async def redeliver_callback(self, run_id: str, *, now_at: float) -> bool:
        """See `Store.redeliver`."""


@dataclass(frozen=True, slots=True)
class CallbackAdminHandlers:
    """On the operations port only: it sees the runs of every client."""

    store: CallbackStore
    clock: Clock
    log: FilteringBoundLogger

    def routes(self) -> list[Route]:
        """Where it answers."""
        return [
            Route("GET", "/callbacks", self.list_callbacks, "callbacks"),
            Route("POST", "/callbacks/replay/{id}", self.replay, "callbacks"),
        ]

    async def list_callbacks(self, request: Request) -> web.Response:
        """Answer `GET /callbacks?state=…&after=…`: the ids of a hundred runs, and after which one to go on."""
        state, after = request.query.get("state", GAVE_UP), request.query.get("after", "")
        if state not in CALLBACK_STATES:
            raise _invalid_parameter("state", "one of " + ", ".join(CALLBACK_STATES))
        if not _VALID_RUN_ID(after):
            raise _invalid_parameter("after", "the `next` of an earlier answer")
        try:
            runs = await self.store.list_by_callback_state(state, limit=_PAGE_SIZE, after=after)
        except StoreUnavailable:
            raise Problem("store_unavailable", retry_after=1) from None
        next_after = runs[-1] if len(runs) == _PAGE_SIZE else None
        return make_response(200, strictjson.write({"runs": runs, "next": next_after}), JSON_CONTENT_TYPE)

    async def replay(self, request: Request) -> web.Response:
        """Answer `POST /callbacks/replay/{id}`: the callback is due now, with its whole schedule before it again.

        The content type keeps web pages out: a browser does not let them send it to another site. One whose own name
        was made to lead here is in the same site, but its browser still says that it is a page.
        """
        if "Origin" in request.headers:
            raise Problem("forbidden", "Cross-origin requests are not allowed.")
        if request.headers.get("Content-Type", "").partition(";")[0].strip().lower() != JSON_CONTENT_TYPE:
            raise Problem("unsupported_media_type", "Send Content-Type: application/json; the body may be empty.")
        run_id = request.path_param
        try:
            found = bool(_VALID_RUN_ID(run_id)) and await self.store.redeliver_callback(
                run_id, now_at=self.clock.now().timestamp()
            )
        except StoreUnavailable:
            raise Problem("store_unavailable", retry_after=1) from None
        if not found:
            raise Problem("not_found", "No finished run with this id has a callback.")
        self.log.info("callback_replayed", run_id=run_id)
        return make_response(
            202, strictjson.write({"id": run_id, "callback": {"state": CALLBACK_STATES[0]}}), JSON_CONTENT_TYPE
        )


def _invalid_parameter(name: str, expected: str) -> Problem:
    return Problem("invalid_request", "1 thing(s) are wrong.", errors=(FieldError(f"?{name}", f"must be {expected}"),))
