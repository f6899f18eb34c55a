"""Operations of `gateway.api.admin.session`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, Field

from gateway.api.admin.openapi.operations import Answer, Operation, OperationGroup
from gateway.api.admin.session import LogInRequest
from gateway.api.openapi.list_parameters import query_parameter


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


class LoginsShown(BaseModel):
    """What the console offers to those without a session."""

    keys: Annotated[bool, Field(description="Whether `server.ops_keys` lists any key.")]
    issuer: Annotated[str | None, Field(description="Name of the issuer of `console.login`; null without one.")]
    start: Annotated[str | None, Field(description="URL that begins a log-in through it; null without one.")]


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
        Operation(
            "GET",
            "/api/login",
            "showLogins",
            "Show the ways to log in",
            {200: Answer("What the console offers.", LoginsShown)},
            requires_key=False,
        ),
        Operation(
            "GET",
            "/api/login/start",
            "startLogin",
            "Log in through the issuer of `console.login`",
            {303: Answer("To the issuer, or to the console with the reason in `login`.")},
            description="Sets a cookie that binds the answer of the issuer to this browser, for 10 minutes.",
            codes=("unknown_route", "store_unavailable"),
            requires_key=False,
        ),
        Operation(
            "GET",
            "/api/login/callback",
            "completeLogin",
            "Complete a log-in: where the issuer sends the browser back",
            {
                303: Answer(
                    "To the console: with the cookie `runward_session`, or with the reason for a refusal in `login`: "
                    "`failed`, `no_role` or `unavailable`.",
                )
            },
            parameters=(
                query_parameter("code", {"type": "string"}, "Authorization code."),
                query_parameter("state", {"type": "string"}, "Value that the log-in has sent."),
                query_parameter("iss", {"type": "string"}, "Issuer (RFC 9207)."),
                query_parameter("error", {"type": "string"}, "Error code of the issuer."),
            ),
            codes=("unknown_route", "too_many_failures", "store_unavailable"),
            requires_key=False,
        ),
    ),
)
