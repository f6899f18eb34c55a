"""Operations of `gateway.api.admin.callbacks`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, Field

from gateway.api.admin.callback_delivery import CallbackRecoveryRequest, CallbackTestRequest
from gateway.api.admin.callbacks import PAGE_SIZE, RUN_ID_PATTERN
from gateway.api.admin.openapi.operations import IGNORED_BODY, Answer, Operation, OperationGroup, path_parameter
from gateway.api.openapi.list_parameters import query_parameter
from gateway.runs.callbacks.dispatcher import CALLBACK_STATES, GAVE_UP
from gateway.runs.callbacks.recovery import MAX_CALLBACKS

_BODY_CODES = (
    "malformed_json",
    "forbidden",
    "request_timeout",
    "payload_too_large",
    "unsupported_media_type",
    "invalid_request",
)


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


class CallbackTested(BaseModel):
    """What became of a test delivery."""

    accepted: Annotated[bool, Field(description="The receiver answered with a 2xx.")]
    status: Annotated[int | None, Field(description="Status of the receiver; null without an answer.")]
    fault: Annotated[
        Literal["refused", "unreachable", "untrusted", "timeout", "disconnected", "invalid_reply"] | None,
        Field(description="Why there is no status."),
    ]
    duration_ms: float
    sent_bytes: Annotated[int, Field(description="Size of the body that was sent.")]
    webhook_id: Annotated[str, Field(description="The `webhook-id` of the message.")]


class HostCount(BaseModel):
    """Number of callbacks of a receiver."""

    host: str
    count: int


class CallbacksRecovered(BaseModel):
    """Callbacks that were given up, and how many are delivered again."""

    count: Annotated[int, Field(description=f"At most {MAX_CALLBACKS}.")]
    hosts: Annotated[list[HostCount], Field(description="Those of each receiver, the most first; at most 50.")]
    more: Annotated[bool, Field(description="There may be others: repeat the request.")]
    due: Annotated[int | None, Field(description="Callbacks that are due now; null for a dry run.")]


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
        Operation(
            "POST",
            "/api/callbacks/test",
            "testCallback",
            "Send a test message to a callback URL",
            {200: Answer("What became of it, whatever the receiver answered.", CallbackTested)},
            description="It is checked, signed and sent as a callback is, with the type `callback.test`, once.",
            body=CallbackTestRequest,
            codes=(*_BODY_CODES, "callback_url_refused", "overloaded"),
        ),
        Operation(
            "POST",
            "/api/callbacks/recover",
            "recoverCallbacks",
            "Deliver given-up callbacks since a time again",
            {200: Answer("Their number, and how many are due now.", CallbacksRecovered)},
            description="Their schedule starts again. Receivers recognize a repeated delivery by its `webhook-id`.",
            body=CallbackRecoveryRequest,
            codes=(*_BODY_CODES, "store_unavailable"),
        ),
    ),
)
