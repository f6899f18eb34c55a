"""Operations of `gateway.api.admin.callbacks`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, Field

from gateway.api.admin.callbacks import PAGE_SIZE, RUN_ID_PATTERN
from gateway.api.admin.openapi.operations import IGNORED_BODY, Answer, Operation, OperationGroup, path_parameter
from gateway.api.openapi.list_parameters import query_parameter
from gateway.runs.callbacks.dispatcher import CALLBACK_STATES, GAVE_UP


class CallbacksPage(BaseModel):
    """A page of runs with a callback in the state that was asked for."""

    runs: Annotated[list[str], Field(max_length=PAGE_SIZE, description="Ids of the runs, in ascending order.")]
    next: Annotated[str | None, Field(description="`after` of the next page; null on the last page.")]


class PendingCallback(BaseModel):
    """State of a callback that is due."""

    state: Literal["pending"]


class CallbackReplayed(BaseModel):
    """A callback that is delivered again."""

    id: Annotated[str, Field(description="Id of the run.")]
    callback: PendingCallback


GROUP = OperationGroup(
    "Callbacks",
    "Callbacks of the runs of all clients.",
    (
        Operation(
            "GET",
            "/callbacks",
            "listCallbacks",
            "List runs by the state of their callback",
            {200: Answer("A page of run ids.", CallbacksPage)},
            parameters=(
                query_parameter("state", {"type": "string", "enum": list(CALLBACK_STATES), "default": GAVE_UP}),
                query_parameter("after", {"type": "string", "pattern": RUN_ID_PATTERN}, "`next` of the page before."),
            ),
            codes=("invalid_request", "store_unavailable"),
        ),
        Operation(
            "POST",
            "/callbacks/replay/{id}",
            "replayCallback",
            "Deliver a callback again",
            {202: Answer("The callback is due now, and its schedule starts again.", CallbackReplayed)},
            description="The receiver recognizes a repeated delivery by its `webhook-id`.",
            parameters=(path_parameter("id", "Id of a run that has ended and has a callback."),),
            body=IGNORED_BODY,
            codes=("forbidden", "not_found", "unsupported_media_type", "store_unavailable"),
        ),
    ),
)
