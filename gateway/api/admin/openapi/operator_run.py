"""Operations of `gateway.api.admin.operator_run`."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, Field

from gateway.api.admin.openapi.operations import Answer, Operation, OperationGroup
from gateway.api.operator_runs import OperatorRunRequest


class OperatorRunAccepted(BaseModel):
    """A run that was stored, and is started in the background."""

    id: Annotated[str, Field(description="Id of the run.")]
    client: str
    workflow: str
    replayed: Annotated[
        bool, Field(description="An earlier request with the same key started the run; nothing was started now.")
    ]


GROUP = OperationGroup(
    "Runs on behalf of clients",
    "Runs that an operator requests for a client.",
    (
        Operation(
            "POST",
            "/api/run",
            "startRunForClient",
            "Start a run on behalf of a client",
            {202: Answer("The run is stored and started in the background.", OperatorRunAccepted, ("Location",))},
            description="The run is one of the client's: its workflows, limits, quotas and idempotency keys apply, and "
            "the client can look it up. It may cost money. A repetition with the same key and run starts nothing.",
            body=OperatorRunRequest,
            codes=(
                "malformed_json",
                "invalid_idempotency_key",
                "forbidden",
                "workflow_not_found",
                "request_timeout",
                "idempotency_in_flight",
                "payload_too_large",
                "unsupported_media_type",
                "invalid_request",
                "idempotency_mismatch",
                "callback_url_refused",
                "overloaded",
                "store_unavailable",
            ),
        ),
    ),
)
