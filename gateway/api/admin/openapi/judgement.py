"""Operations of `gateway.api.admin.judgement`."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, Field

from gateway.api.admin.judgement import JudgementRequest
from gateway.api.admin.openapi.operations import Answer, Operation, OperationGroup, path_parameter
from gateway.api.openapi.component_schemas import NotRequired


class Judgement(BaseModel):
    """What an operator found out about a run."""

    verdict: Annotated[
        Literal["found_paid", "found_not_run"],
        Field(description="`found_paid`: the provider executed the run. `found_not_run`: it did not."),
    ]
    note: str
    at: Annotated[datetime, Field(description="Time of the judgement.")]
    actor: Annotated[str | NotRequired, Field(description="Name of the operator's key, if it has one.")] = None


class JudgedRun(BaseModel):
    """A run with its judgement."""

    id: Annotated[str, Field(description="Id of the run.")]
    judgement: Judgement


GROUP = OperationGroup(
    "Judgements",
    "What operators found out about runs that ended as `unknown`.",
    (
        Operation(
            "POST",
            "/api/runs/{id}/judge",
            "judgeRun",
            "Judge a run that ended as unknown",
            {200: Answer("The judgement is stored, in place of an earlier one.", JudgedRun)},
            description="The judgement stands beside the outcome of the run, which stays `unknown`.",
            parameters=(path_parameter("id", "Id of the run."),),
            body=JudgementRequest,
            codes=(
                "malformed_json",
                "forbidden",
                "not_found",
                "request_timeout",
                "run_not_unknown",
                "payload_too_large",
                "unsupported_media_type",
                "invalid_request",
                "store_unavailable",
            ),
        ),
    ),
)
