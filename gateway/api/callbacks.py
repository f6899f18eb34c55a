"""The face for operators whose receivers were away: which callbacks were given up, and deliver one again."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Protocol

from aiohttp import web
from structlog.typing import FilteringBoundLogger

from gateway import strictjson
from gateway.api.server import Request, Route
from gateway.api.wire import answer
from gateway.clock import Clock
from gateway.problems import Pointer, Problem
from gateway.runs.answers import JSON
from gateway.runs.callbacks import GAVE_UP, STATES
from gateway.store.contract import StoreUnavailable

_PAGE = 100
_ID = re.compile(r"[A-Za-z0-9_-]{0,64}").fullmatch


class Deliveries(Protocol):
    """As much of a `Store` as is needed here."""

    async def called_back(self, state: str, *, limit: int, after: str = "") -> list[str]:
        """See `Store.called_back`."""

    async def redeliver(self, run_id: str, *, now_at: float) -> bool:
        """See `Store.redeliver`."""


@dataclass(frozen=True, slots=True)
class CallbacksFace:
    """On the operations port only: it sees the runs of every client."""

    store: Deliveries
    clock: Clock
    log: FilteringBoundLogger

    def routes(self) -> list[Route]:
        """Where it answers."""
        return [
            Route("GET", "/callbacks", self.show, "callbacks"),
            Route("POST", "/callbacks/replay/{id}", self.replay, "callbacks"),
        ]

    async def show(self, request: Request) -> web.Response:
        """Answer `GET /callbacks?state=…&after=…`: the ids of a hundred runs, and after which one to go on."""
        state, after = request.query.get("state", GAVE_UP), request.query.get("after", "")
        if state not in STATES:
            raise _wrong("state", "one of " + ", ".join(STATES))
        if not _ID(after):
            raise _wrong("after", "the `next` of an earlier answer")
        try:
            runs = await self.store.called_back(state, limit=_PAGE, after=after)
        except StoreUnavailable:
            raise Problem("store_unavailable", retry_after=1) from None
        following = runs[-1] if len(runs) == _PAGE else None
        return answer(200, strictjson.write({"runs": runs, "next": following}), JSON)

    async def replay(self, request: Request) -> web.Response:
        """Answer `POST /callbacks/replay/{id}`: the callback is due now, with its whole schedule before it again.

        The content type keeps web pages out: a browser does not let them send it to another site. One whose own name
        was made to lead here is in the same site, but its browser still says that it is a page.
        """
        if "Origin" in request.headers:
            raise Problem("forbidden", "This is not for web pages.")
        if request.headers.get("Content-Type", "").partition(";")[0].strip().lower() != JSON:
            raise Problem("unsupported_media_type", "Send it as Content-Type: application/json; the body may be empty.")
        run_id = request.tail
        try:
            found = bool(_ID(run_id)) and await self.store.redeliver(run_id, now_at=self.clock.now().timestamp())
        except StoreUnavailable:
            raise Problem("store_unavailable", retry_after=1) from None
        if not found:
            raise Problem("not_found", "No run of this id has ended with a callback, or it was forgotten.")
        self.log.info("callback_replayed", run_id=run_id)
        return answer(202, strictjson.write({"id": run_id, "callback": {"state": STATES[0]}}), JSON)


def _wrong(name: str, what: str) -> Problem:
    return Problem("invalid_request", "1 thing(s) are wrong.", errors=(Pointer(f"?{name}", f"must be {what}"),))
