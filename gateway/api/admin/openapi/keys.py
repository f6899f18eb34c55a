"""Operations of `gateway.api.admin.keys`."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, Field

from gateway.api.admin.key_requests import CheckKeyRequest, CreateKeyRequest, ExpireKeyRequest, RotateKeyRequest
from gateway.api.admin.keys import CURSOR_PATTERN, ID_PATTERN, MAX_PAGE_SIZE, PAGE_SIZE
from gateway.api.admin.openapi.operations import IGNORED_BODY, Answer, Operation, OperationGroup, path_parameter
from gateway.api.openapi.responses import OpenApiNode
from gateway.settings.types.fields import NAME_PATTERN

_Count = Annotated[int | None, Field(ge=1)]


class KeyLimitsShown(BaseModel):
    """Limits of a key, beside those of its client; null: no such limit."""

    rate: str | None
    burst: _Count
    concurrency: _Count
    daily: _Count


class KeyShown(BaseModel):
    """A stored key, without its text."""

    id: Annotated[str, Field(pattern=ID_PATTERN)]
    client: str
    name: str
    state: Annotated[
        Literal["active", "expired", "revoked", "no_client"],
        Field(description="`no_client`: its client is not configured any more, so that it is refused."),
    ]
    supported: Annotated[
        bool, Field(description="False if a later version created it: it is refused, and its terms are not shown.")
    ]
    workflows: Annotated[list[str] | None, Field(description="Patterns; null: all that its client may run.")]
    limits: KeyLimitsShown
    expires: datetime | None
    created: datetime
    created_by: Annotated[str | None, Field(description="Name of the operations key that created it, if it had one.")]
    rotated: Annotated[datetime | None, Field(description="Time of its last rotation.")]
    previous_until: Annotated[
        datetime | None, Field(description="While the grace of a rotation runs: when the previous text ends.")
    ]
    revoked: datetime | None
    last_used: Annotated[
        datetime | None, Field(description="To the minute, some seconds later; null: never, or not known.")
    ]


class NewKeyShown(KeyShown):
    """A stored key that was created or rotated, with its text, which is shown this once."""

    key: str


class KeysPage(BaseModel):
    """Stored keys, the newest first."""

    keys: list[KeyShown]
    next: Annotated[str | None, Field(description="`before` of the next page; null: this is the last one.")]


class KeyCheckShown(BaseModel):
    """Whether a key is accepted."""

    accepted: bool
    why: Annotated[
        Literal["malformed", "unknown", "expired", "revoked", "rotated", "no_client", "not_supported"] | None,
        Field(description="Reason of the refusal."),
    ]
    source: Annotated[
        Literal["configuration", "store"] | None,
        Field(description="Where the key was found; the configuration goes before the store."),
    ]
    client: str | None
    stored: Annotated[KeyShown | None, Field(description="The stored key, if it is one.")]


def _parameter(name: str, description: str, schema: OpenApiNode) -> OpenApiNode:
    return {"name": name, "in": "query", "required": False, "schema": schema, "description": description}


_ID = path_parameter("id", "Id of the key.")
_BODY_CODES = (
    *("malformed_json", "forbidden", "request_timeout", "payload_too_large", "unsupported_media_type"),
    *("invalid_request", "store_unavailable"),
)

GROUP = OperationGroup(
    "Keys",
    "Keys of clients that are created while the gateway runs. Changes hold at every replica within two seconds.",
    (
        Operation(
            "GET",
            "/api/keys",
            "listKeys",
            "List the stored keys",
            {200: Answer("A page of keys.", KeysPage)},
            parameters=(
                _parameter("client", "Keys of this client.", {"type": "string", "pattern": NAME_PATTERN}),
                _parameter(
                    "limit",
                    "Most keys of the page.",
                    {"type": "integer", "minimum": 1, "maximum": MAX_PAGE_SIZE, "default": PAGE_SIZE},
                ),
                _parameter("before", "`next` of the page before.", {"type": "string", "pattern": CURSOR_PATTERN}),
            ),
            codes=("invalid_request", "store_unavailable"),
        ),
        Operation(
            "POST",
            "/api/keys",
            "createKey",
            "Create a key of a client",
            {201: Answer("The key, with its text, which is shown this once.", NewKeyShown, ("Location",))},
            description="The client is one of the configuration, whose scope and limits hold too.",
            body=CreateKeyRequest,
            codes=(*_BODY_CODES, "too_many_keys"),
        ),
        Operation(
            "POST",
            "/api/keys/check",
            "checkKey",
            "Try a key",
            {200: Answer("Whether the key is accepted, and why not.", KeyCheckShown)},
            description="The text of the key is neither logged nor kept.",
            body=CheckKeyRequest,
            codes=_BODY_CODES,
        ),
        Operation(
            "GET",
            "/api/keys/{id}",
            "showKey",
            "Look up a stored key",
            {200: Answer("The key.", KeyShown)},
            parameters=(_ID,),
            codes=("key_not_found", "store_unavailable"),
        ),
        Operation(
            "POST",
            "/api/keys/{id}/rotate",
            "rotateKey",
            "Replace the text of a key",
            {200: Answer("The key, with its new text, which is shown this once.", NewKeyShown)},
            description="The id stays. The text before it is valid for the grace, so that apps can change over.",
            parameters=(_ID,),
            body=RotateKeyRequest,
            codes=(*_BODY_CODES, "key_not_found", "key_ended", "rotation_in_progress"),
        ),
        Operation(
            "POST",
            "/api/keys/{id}/revoke",
            "revokeKey",
            "Revoke a key",
            {200: Answer("The key. Its runs in progress end; new requests are refused.", KeyShown)},
            parameters=(_ID,),
            body=IGNORED_BODY,
            codes=("forbidden", "unsupported_media_type", "key_not_found", "store_unavailable"),
        ),
        Operation(
            "POST",
            "/api/keys/{id}/expire",
            "expireKey",
            "Set the expiry of a key",
            {200: Answer("The key.", KeyShown)},
            parameters=(_ID,),
            body=ExpireKeyRequest,
            codes=(*_BODY_CODES, "key_not_found", "key_ended"),
        ),
    ),
)
