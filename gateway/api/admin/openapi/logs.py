"""Operations of `gateway.api.admin.logs`."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, Field

from gateway.api.admin.logs import LevelRequest
from gateway.api.admin.openapi.operations import Answer, Operation, OperationGroup


class LevelShown(BaseModel):
    """Level of the log of this replica."""

    level: Annotated[Literal["debug", "info", "warning", "error"], Field(description="Lowest level that is written.")]
    configured: Annotated[Literal["debug", "info", "warning", "error"], Field(description="`logs.level`.")]
    overridden: Annotated[bool, Field(description="Whether an operator has set the level.")]
    until: Annotated[
        datetime | None, Field(description="Time at which the configured level is back; null if it has no end.")
    ]


GROUP = OperationGroup(
    "Log",
    "Level of the log.",
    (
        Operation(
            "GET",
            "/logs/level",
            "getLogLevel",
            "Show the level of the log",
            {200: Answer("The level.", LevelShown)},
        ),
        Operation(
            "PUT",
            "/logs/level",
            "setLogLevel",
            "Set the level of the log",
            {200: Answer("The level.", LevelShown)},
            description="Of the replica that answers, all its worker processes included; other replicas have their "
            "own. `configured`: the configured level is back. A restart ends the change too.",
            body=LevelRequest,
            codes=(
                "malformed_json",
                "forbidden",
                "request_timeout",
                "payload_too_large",
                "unsupported_media_type",
                "invalid_request",
            ),
        ),
    ),
)
