"""Operations of `gateway.api.admin.audit`."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, Field

from gateway.api.admin.audit import CURSOR_PATTERN, MAX_LIMIT, ORDERS
from gateway.api.admin.openapi.operations import Answer, Operation, OperationGroup
from gateway.api.openapi.list_parameters import TEXT, query_parameter
from gateway.api.openapi.responses import OpenApiNode
from gateway.audit.entry import RESULTS

_Hash = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
_TIME: OpenApiNode = {"type": "string", "format": "date-time"}


class AuditRecordShown(BaseModel):
    """An audit record. Its hash is the SHA-256 of all other members as in RFC 8785."""

    sequence: Annotated[int, Field(ge=1)]
    previous: Annotated[_Hash, Field(description="Hash of the record before; zeros in the first one.")]
    hash: _Hash
    format: Annotated[int, Field(description="Version of these members: 1.")]
    time: datetime
    act: Annotated[str, Field(description="The same in the record of the beginning of an act and in that of its end.")]
    action: Annotated[str, Field(description="What was done, such as `providers.override`.")]
    actor: Annotated[str, Field(description="Name of the operations key; `system` for the gateway itself.")]
    via: Annotated[
        Literal["key", "session", "open", "unknown", "system"],
        Field(
            description="`open`: no key is configured. `unknown`: no key was accepted, or none is needed. "
            "`system`: the gateway itself."
        ),
    ]
    role: Literal["viewer", "operator", ""]
    target: Annotated[str, Field(description="Id or name of what was changed.")]
    result: Annotated[
        Literal["begun", "succeeded", "refused", "failed"],
        Field(
            description="`begun`: about to be done; without a later record of the act its end is not known. "
            "`refused`: nothing was changed. `failed`: ended with an error, something may have changed."
        ),
    ]
    code: Annotated[str, Field(description="Error code of what was refused or failed.")]
    address: Annotated[str, Field(description="Address of the client.")]
    request_id: str
    replica: Annotated[str, Field(description="Name of the machine, and id of the process.")]
    details: dict[str, str]


class ChainEnd(BaseModel):
    """Place in the chain."""

    sequence: Annotated[int, Field(ge=0)]
    hash: _Hash


class AuditPageShown(BaseModel):
    """A page of audit records, and the ends of the chain before it was read."""

    records: list[AuditRecordShown]
    next: Annotated[str | None, Field(description="`cursor` of the next page; null on the last one.")]
    complete: Annotated[bool, Field(description="False if the search stopped at its bound: go on with `next`.")]
    head: Annotated[ChainEnd, Field(description="The newest record.")]
    anchor: Annotated[ChainEnd, Field(description="The last record that was purged; 0 and zeros if none was.")]


_PARAMETERS = (
    query_parameter("limit", {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": 100}),
    query_parameter("cursor", {"type": "string", "pattern": CURSOR_PATTERN}, "`next` of the page before."),
    query_parameter("order", {"type": "string", "enum": list(ORDERS), "default": "newest"}, "Which come first."),
    query_parameter("actor", TEXT),
    query_parameter("action", TEXT),
    query_parameter("target", TEXT),
    query_parameter("act", TEXT),
    query_parameter("result", {"type": "string", "enum": list(RESULTS)}),
    query_parameter("from", _TIME, "Records of this time or later."),
    query_parameter("until", _TIME, "Records before this time."),
)

GROUP = OperationGroup(
    "Audit",
    "What was changed, by which operator: a chain of records in which each contains the hash of the one before.",
    (
        Operation(
            "GET",
            "/api/audit",
            "listAuditRecords",
            "List audit records",
            {200: Answer("Records that meet all conditions, newest first.", AuditPageShown)},
            parameters=_PARAMETERS,
            codes=("invalid_request", "store_unavailable"),
        ),
    ),
)
