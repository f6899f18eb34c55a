"""Operations of `gateway.api.admin.session`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, Field

from gateway.api.admin.openapi.operations import Answer, Operation, OperationGroup
from gateway.api.admin.session import LogInRequest


class SessionShown(BaseModel):
    """The caller, and the replica that answers."""

    role: Annotated[
        Literal["viewer", "operator"], Field(description="Of the key; `operator` for everyone if no key is required.")
    ]
    name: Annotated[str | None, Field(description="Name of the key in `server.ops_keys`; null if it has none.")]
    team: Annotated[
        str | None, Field(description="All that the caller may read belongs to this team; null: everything.")
    ]
    keys_required: Annotated[bool, Field(description="Whether `server.ops_keys` lists any key.")]
    version: Annotated[str, Field(description="Version of the gateway.")]
    replica: Annotated[str, Field(description="Host name of the replica.")]


GROUP = OperationGroup(
    "Session",
    "Sessions of the console: a signed cookie instead of a key.",
    (
        Operation(
            "POST",
            "/api/session",
            "logIn",
            "Begin a session",
            {204: Answer("The cookie `runward_session` is set.")},
            description="The session ends after 12 hours, and as soon as its key is removed or has expired.",
            body=LogInRequest,
            codes=(
                "malformed_json",
                "unauthorized",
                "forbidden",
                "too_many_failures",
                "request_timeout",
                "payload_too_large",
                "unsupported_media_type",
                "invalid_request",
                "store_unavailable",
            ),
            requires_key=False,
        ),
        Operation(
            "GET",
            "/api/session",
            "showSession",
            "Show role, name and team of the caller",
            {200: Answer("The caller.", SessionShown)},
        ),
        Operation(
            "DELETE",
            "/api/session",
            "logOut",
            "End the session of this browser",
            {204: Answer("The cookie is removed. A copy of its token stays valid until it expires.")},
            codes=("forbidden",),
            requires_key=False,
        ),
    ),
)
