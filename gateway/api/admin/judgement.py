"""Admin API for runs that ended as `unknown`: what an operator found out about them at the provider."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field

from gateway.api.admin.callbacks import RUN_ID_PATTERN
from gateway.api.admin.cross_site import refuse_cross_site
from gateway.clock import Clock, format_rfc3339
from gateway.http.body import parse_json_body, read_json_body
from gateway.http.ops_authentication import actor_fields
from gateway.http.request import Request, Route
from gateway.http.response import Response, make_response
from gateway.json import strict_json
from gateway.observability.logger_protocol import Logger
from gateway.problems import Problem
from gateway.runs.rendering import JSON_CONTENT_TYPE
from gateway.store.budgets import KeepsBudgets, Settlement
from gateway.store.records import RunOverview

_MAX_BODY = 4096
_BODY_TIMEOUT = 10.0  # seconds
_VALID_RUN_ID = re.compile(RUN_ID_PATTERN).fullmatch


class JudgementRequest(BaseModel):
    """The body of `POST /api/runs/{id}/judge`."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, hide_input_in_errors=True)

    verdict: Literal["found_paid", "found_not_run"]
    note: Annotated[str, Field(max_length=500, pattern=r"^[^\x00-\x1f\x7f-\x9f\u2028\u2029]*$")] = ""


class JudgementStore(KeepsBudgets, Protocol):
    """The part of `Store` that these handlers use."""

    async def judge(self, run_id: str, judgement: bytes) -> bool:
        """See `HistoryStore.judge`. Raises StoreUnavailable."""

    async def get_overview(self, run_id: str) -> RunOverview | None:
        """See `Store.get_overview`. Raises StoreUnavailable."""


@dataclass(frozen=True, slots=True)
class JudgementHandlers:
    """Handlers for the operations port: they cover the runs of every client. The outcome of a run is never changed.

    StoreUnavailable becomes the problem `store_unavailable` in the `access_log` middleware.
    """

    store: JudgementStore
    clock: Clock
    log: Logger

    def routes(self) -> list[Route]:
        """Routes of the handlers."""
        return [Route("POST", "/api/runs/{path}/judge", self.judge, "api_runs", action="runs.judge")]

    async def judge(self, request: Request) -> Response:
        """Handle `POST /api/runs/{id}/judge`: set the judgement of a run, in place of an earlier one.

        What the run may have cost is then spent, or given back to its budgets.
        """
        refuse_cross_site(request, body='the body is an object with "verdict"')
        wanted = parse_json_body(
            JudgementRequest, await read_json_body(request, max_bytes=_MAX_BODY, timeout=_BODY_TIMEOUT)
        )
        run_id = request.path_param
        if not run_id or not _VALID_RUN_ID(run_id):
            raise Problem("not_found", "No run has this id.")
        request.audit_details = {"verdict": wanted.verdict}
        actor = actor_fields(request)
        judgement = {"verdict": wanted.verdict, "note": wanted.note, "at": format_rfc3339(self.clock.now()), **actor}
        if not await self.store.judge(run_id, strict_json.write(judgement)):
            if await self.store.get_overview(run_id) is None:
                raise Problem("not_found", "No run has this id.")
            raise Problem("run_not_unknown", "Only a run that has ended as `unknown` can be judged.")
        paid = wanted.verdict == "found_paid"
        await self.store.budgets.settle([Settlement(run_id, "spent" if paid else "none")])
        self.log.warning("run_judged", run_id=run_id, verdict=wanted.verdict, note=wanted.note, **actor)
        return make_response(200, strict_json.write({"id": run_id, "judgement": judgement}), JSON_CONTENT_TYPE)
