"""Admin API for bulk replays: a plan first, which says what a replay would start; then a job that carries it out."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import Annotated, Protocol, TypeAlias, cast

import orjson
from multidict import MultiDict
from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from gateway.api.admin.cross_site import refuse_cross_site
from gateway.api.admin.overview import GatewayState
from gateway.api.admin.protected_port import require_protected_port
from gateway.api.admin.replay_filter import parse_filter
from gateway.api.run_search import WHOLE_ID_PATTERN
from gateway.clock import Clock, format_rfc3339
from gateway.http.body import parse_json_body, read_json_body
from gateway.http.ops_authentication import actor_fields
from gateway.http.request import Request, Route
from gateway.http.response import Response, make_response
from gateway.json import strict_json
from gateway.money import format_amount
from gateway.observability.logger_protocol import Logger
from gateway.problems import FieldError, Problem, invalid_body
from gateway.runs.bulk_replays.plan import PlanStore, ReplayPlan, add_found, add_ids, decode_plan
from gateway.runs.bulk_replays.progress import ReplayProgress, decode_progress
from gateway.runs.bulk_replays.runner import BULK_REPLAYS_CHANGED
from gateway.runs.configured_prices import price_of_start
from gateway.runs.rendering import JSON_CONTENT_TYPE
from gateway.store.bulk_replay import BulkReplay, KeepsBulkReplays
from gateway.store.contract import StoreUnavailable

MAX_IDS = 1000
MAX_CONDITIONS = 50
ID_PATTERN = "^rpl_[0-9a-f]{32}$"

_MAX_BODY = 131_072
_BODY_TIMEOUT = 10.0  # seconds
_PLAN_LIFE = 3600.0  # seconds
_JOB_LIFE = 7 * 86_400.0  # seconds after its start in which its end can be looked up
_MAX_RUNNING = 10

Condition: TypeAlias = str | bool | int | float | Annotated[list[str], Field(min_length=1)]


class ReplayStore(PlanStore, KeepsBulkReplays, Protocol):
    """The part of `Store` that these handlers use. Every method may raise StoreUnavailable."""

    async def notify(self, name: str) -> None:
        """See `Store.notify`."""


class BulkReplayRequest(BaseModel):
    """The body of `POST /api/replays`: which runs to replay, by a filter or by their ids."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        frozen=True,
        hide_input_in_errors=True,
        json_schema_extra={"oneOf": [{"required": ["filter"]}, {"required": ["ids"]}]},
    )

    filter: Annotated[
        dict[str, Condition] | None,
        Field(
            max_length=MAX_CONDITIONS,
            description="Conditions by the names of the parameters of `GET /api/runs`; those that may be repeated are "
            "lists. By default runs of the last 7 days. Runs that succeeded are left out, unless `status` is that.",
        ),
    ] = None
    ids: Annotated[
        list[Annotated[str, Field(pattern=WHOLE_ID_PATTERN)]] | None, Field(min_length=1, max_length=MAX_IDS)
    ] = None
    dry_run: Annotated[bool, Field(description="Only plan. False starts the job of `plan`.")] = True
    include_unknown: Annotated[
        bool, Field(description="Replay runs whose outcome is `unknown` too: each may be paid for twice.")
    ] = False
    rate: Annotated[float, Field(ge=0.2, le=50, allow_inf_nan=False, description="Starts a second.")] = 5.0
    plan: Annotated[
        str | None, Field(pattern=ID_PATTERN, description="Id of the plan to start; the other members are as for it.")
    ] = None

    @model_validator(mode="after")
    def _check_members(self) -> BulkReplayRequest:
        given = {"filter", "ids"} & self.model_fields_set
        if len(given) != 1 or getattr(self, given.pop()) is None:
            raise PydanticCustomError("exclusive", "either filter or ids is required")
        if self.dry_run != (self.plan is None):
            raise PydanticCustomError("plan", "plan is required with dry_run: false, and only then")
        return self

    @property
    def selection(self) -> str:
        """Hash of what a plan depends on."""
        parts = [self.filter, self.ids, self.include_unknown, self.rate]
        return hashlib.sha256(orjson.dumps(parts, option=orjson.OPT_SORT_KEYS)).hexdigest()


@dataclass(frozen=True, slots=True)
class ReplayAdminHandlers:
    """Handlers for the operations port. Any replica on the store carries a job out.

    StoreUnavailable becomes the problem `store_unavailable` in the `access_log` middleware.
    """

    store: ReplayStore
    state: GatewayState
    clock: Clock
    log: Logger

    def routes(self) -> list[Route]:
        """Routes of the handlers."""
        return [
            Route("POST", "/api/replays", self.plan_or_start, "api_replays", action="replays.create"),
            Route("GET", "/api/replays/{id}", self.show, "api_replays"),
            Route("POST", "/api/replays/{path}/abort", self.abort, "api_replays", action="replays.abort"),
        ]

    async def plan_or_start(self, request: Request) -> Response:
        """Handle `POST /api/replays`: 200 with a plan; 202 with the job of a plan, also if it was started before."""
        refuse_cross_site(request, body='the body is an object with "filter" or "ids"')
        raw = await read_json_body(request, max_bytes=_MAX_BODY, timeout=_BODY_TIMEOUT)
        wanted = parse_json_body(BulkReplayRequest, raw)
        if wanted.plan is not None:
            request.audit_target, request.audit_details = wanted.plan, {"step": "start"}
            require_protected_port(self.state.settings, "replays can be started")
            started = await self._start(wanted.plan, wanted, actor_fields(request))
            return _response(202, started, (("Location", f"/api/replays/{started.id}"),))
        plan = await self._plan(wanted)
        request.audit_target, request.audit_details = plan.id, {"step": "plan"}
        return _response(200, plan)

    async def show(self, request: Request) -> Response:
        """Handle `GET /api/replays/{id}`: the plan and its progress."""
        return _response(200, await self._find(request.path_param))

    async def abort(self, request: Request) -> Response:
        """Handle `POST /api/replays/{id}/abort`: no further starts within a second. What has ended stays as it is."""
        refuse_cross_site(request, body="the body may be empty")
        while (replay := await self._find(request.path_param)).state in {"planned", "running"}:
            progress = decode_progress(replay.progress)
            progress.ended_at = self._now
            if await self._change(replace(replay, state="aborted", progress=progress.encode())):
                self.log.warning("bulk_replay_ended", replay=replay.id, state="aborted", **actor_fields(request))
        return _response(200, replay)

    async def _plan(self, wanted: BulkReplayRequest) -> BulkReplay:
        price_of = partial(price_of_start, self.state.settings)
        plan = ReplayPlan(wanted.include_unknown, wanted.rate, wanted.selection, price_of=price_of)
        if wanted.filter is None:
            await add_ids(plan, self.store, wanted.ids or [])
        else:
            await add_found(plan, self.store, parse_filter(_as_query(wanted.filter)), self._now)
        plan_id = "rpl_" + self.clock.token(16).hex()
        replay = BulkReplay(plan_id, plan.encode(), self._now, self._now + _PLAN_LIFE)
        await self.store.bulk_replays.add(replay)
        return replay

    async def _start(self, plan_id: str, wanted: BulkReplayRequest, actor: Mapping[str, str]) -> BulkReplay:
        while True:
            replay = await self._find(plan_id)
            if decode_plan(replay.plan).selection != wanted.selection:
                raise invalid_body(FieldError("/plan", "was made for another request"))
            if replay.state != "planned":
                return replay
            if len(await self.store.bulk_replays.list_running()) >= _MAX_RUNNING:
                raise Problem("overloaded", f"{_MAX_RUNNING} bulk replays are running.", retry_after=60)
            progress = ReplayProgress(started_at=self._now).encode()
            delete_at = self._now + _JOB_LIFE
            if await self._change(replace(replay, state="running", progress=progress, delete_at=delete_at)):
                runs = len(decode_plan(replay.plan).runs)
                self.log.warning("bulk_replay_started", replay=replay.id, runs=runs, **actor)

    async def _change(self, replay: BulkReplay) -> bool:
        """Write a change; False if the bulk replay has changed meanwhile."""
        changed = await self.store.bulk_replays.change(replay)
        if changed:
            with suppress(StoreUnavailable):  # every replica reads them each two seconds anyway
                await self.store.notify(BULK_REPLAYS_CHANGED)
        return changed

    async def _find(self, replay_id: str) -> BulkReplay:
        replay = await self.store.bulk_replays.get(replay_id) if len(replay_id) <= 64 else None
        if replay is None or (replay.state == "planned" and replay.delete_at < self._now):
            raise Problem("replay_not_found", "No plan or job has this id; a plan is kept for an hour.")
        return replay

    @property
    def _now(self) -> float:
        return self.clock.now().timestamp()


def _as_query(conditions: Mapping[str, Condition]) -> MultiDict[str]:
    query: MultiDict[str] = MultiDict()
    for name, value in conditions.items():
        for each in value if isinstance(value, list) else [value]:
            query.add(name, str(each).lower() if isinstance(each, bool) else str(each))
    return query


def _response(status: int, replay: BulkReplay, headers: tuple[tuple[str, str], ...] = ()) -> Response:
    return make_response(status, strict_json.write(_document(replay)), JSON_CONTENT_TYPE, headers)


def _document(replay: BulkReplay) -> dict[str, object]:
    plan, progress = decode_plan(replay.plan), decode_progress(replay.progress)
    total = len(plan.runs)
    return {
        "id": replay.id,
        "state": replay.state,
        "created_at": _format_time(replay.created_at),
        "expires_at": _format_time(replay.delete_at) if replay.state == "planned" else None,
        "started_at": _format_time(progress.started_at),
        "ended_at": _format_time(progress.ended_at),
        "include_unknown": plan.include_unknown,
        "rate": plan.rate,
        "plan": {
            "total": total,
            **plan.counts,
            "left_out": plan.left_out,
            "truncated": plan.truncated,
            "price": _price(plan),
        },
        "progress": {
            "total": total,
            "started": progress.started,
            "already_started": progress.already_started,
            "refused": progress.refused.total(),
            "left": total - progress.done,
            "refusals": cast("dict[str, int]", progress.refused),
        },
    }


def _price(plan: ReplayPlan) -> dict[str, object]:
    sums = plan.price_sums
    by_outcome = {outcome: format_amount(amount) for outcome, amount in sums.items()}
    return {"total": format_amount(sum(sums.values())), **by_outcome, "unpriced": plan.unpriced}


def _format_time(at: float | None) -> str | None:
    return None if at is None else format_rfc3339(datetime.fromtimestamp(at, UTC))
