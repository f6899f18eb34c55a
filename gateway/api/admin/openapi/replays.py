"""Operations of `gateway.api.admin.replays`."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, Field

from gateway.api.admin.openapi.operations import IGNORED_BODY, Answer, Operation, OperationGroup, path_parameter
from gateway.api.admin.replays import ID_PATTERN, BulkReplayRequest

_Count = Annotated[int, Field(ge=0)]


class ReplayPriceShown(BaseModel):
    """Sums of declared prices, as decimal numbers in texts: what the replays cost if all of them are executed."""

    total: str
    not_run: str
    failed: str
    succeeded: str
    unknown: str
    unpriced: Annotated[int, Field(ge=0, description="Runs whose workflow declares no price; they are in no sum.")]


class ReplayPlanShown(BaseModel):
    """Numbers of runs that a bulk replay starts, by the outcome that they had, and of those that it leaves out."""

    total: _Count
    not_run: Annotated[int, Field(ge=0, description="Had cost nothing.")]
    failed: Annotated[int, Field(ge=0, description="Each is a new paid run.")]
    succeeded: Annotated[int, Field(ge=0, description="Each is a new paid run.")]
    unknown: Annotated[int, Field(ge=0, description="Each may be paid for twice.")]
    left_out: Annotated[
        dict[str, _Count],
        Field(
            description="By reason: an error code (`input_not_kept`, `outcome_unknown`, `run_unfinished`, "
            "`not_found`), `already_replayed`, or `succeeded`."
        ),
    ]
    truncated: Annotated[bool, Field(description="True if there may be more runs than were examined.")]
    price: ReplayPriceShown


class ReplayProgressShown(BaseModel):
    """Progress of a bulk replay; the numbers add up to `total`."""

    total: _Count
    started: _Count
    already_started: Annotated[int, Field(ge=0, description="Runs that had been replayed before.")]
    refused: _Count
    left: _Count
    refusals: Annotated[
        dict[str, _Count],
        Field(
            description="By reason: an error code, `changed` (the run has another status than in the plan), "
            "`unknown_client` or `content_unreadable`."
        ),
    ]


class BulkReplayShown(BaseModel):
    """A plan, or the job that carries it out."""

    id: Annotated[str, Field(pattern=ID_PATTERN)]
    state: Literal["planned", "running", "done", "aborted"]
    created_at: datetime
    expires_at: Annotated[datetime | None, Field(description="Time until which a plan can be started.")]
    started_at: datetime | None
    ended_at: datetime | None
    include_unknown: bool
    rate: Annotated[float, Field(description="Starts a second.")]
    plan: ReplayPlanShown
    progress: ReplayProgressShown


_ID = path_parameter("id", "Id of the plan.")
_BODY_CODES = ("malformed_json", "forbidden", "request_timeout", "payload_too_large", "unsupported_media_type")

GROUP = OperationGroup(
    "Replays",
    "Replays of many runs: plan first, then start the job of exactly that plan.",
    (
        Operation(
            "POST",
            "/api/replays",
            "planOrStartReplay",
            "Plan a replay of runs, or start it",
            {
                200: Answer("The plan. Nothing is started.", BulkReplayShown),
                202: Answer(
                    "The job of the plan. A repeated request gets the same job.", BulkReplayShown, ("Location",)
                ),
            },
            description="With `dry_run` (the default) counts what a replay would start, and keeps the plan for an "
            "hour. The same request with `dry_run: false` and the id of the plan starts exactly those runs, each once.",
            body=BulkReplayRequest,
            codes=(*_BODY_CODES, "invalid_request", "replay_not_found", "overloaded", "store_unavailable"),
        ),
        Operation(
            "GET",
            "/api/replays/{id}",
            "showReplay",
            "Look up a plan or job",
            {200: Answer("The plan, and the progress of its job.", BulkReplayShown)},
            parameters=(_ID,),
            codes=("replay_not_found", "store_unavailable"),
        ),
        Operation(
            "POST",
            "/api/replays/{id}/abort",
            "abortReplay",
            "Stop further starts of a job",
            {200: Answer("The job. One that has ended stays as it is.", BulkReplayShown)},
            description="No run is started a second later. Those that were started continue.",
            parameters=(_ID,),
            body=IGNORED_BODY,
            codes=("forbidden", "unsupported_media_type", "replay_not_found", "store_unavailable"),
        ),
    ),
)
