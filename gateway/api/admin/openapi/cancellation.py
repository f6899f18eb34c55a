"""Operation of `gateway.api.admin.cancellation`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, Field

from gateway.api.admin.openapi.operations import IGNORED_BODY, Answer, Operation, path_parameter


class RunCancellation(BaseModel):
    """What a request to cancel a run could do."""

    state: Annotated[
        Literal["cancelled", "too_late", "not_yet", "stopping", "not_stopped"],
        Field(
            description="`cancelled`: no start was sent, and none will be. Otherwise the run was started. `too_late`: "
            "the provider cannot stop it. `not_yet`: the provider has not acknowledged the start. `stopping`: it has "
            "accepted the request. `not_stopped`: it was asked and has not accepted it."
        ),
    ]
    detail: Annotated[str, Field(description="Explanation for humans; the text may change.")]


class CancelledRun(BaseModel):
    """A run that an operator has asked to cancel."""

    id: Annotated[str, Field(description="Id of the run.")]
    client: str
    workflow: str
    status: Annotated[str, Field(description="Status of the run after the request.")]
    cancel: RunCancellation


OPERATION = Operation(
    "POST",
    "/api/runs/{id}/cancel",
    "cancelRunForClient",
    "Cancel a run",
    {
        200: Answer("No start was sent, and none will be: nothing is paid.", CancelledRun, ("Location",)),
        202: Answer("A start may have been sent: the end of the run will be recorded.", CancelledRun, ("Location",)),
    },
    description="A run that waits for its start ends as `not_run` with the code `cancelled`, as if its client had "
    "cancelled it. The provider of a started one is asked to stop it, if it can; it ends as the provider reports. "
    "The timeline of the run has the name of the operator. A repetition is safe.",
    parameters=(path_parameter("id", "Id of the run."),),
    body=IGNORED_BODY,
    codes=("forbidden", "not_found", "run_ended", "unsupported_media_type", "overloaded", "store_unavailable"),
)
