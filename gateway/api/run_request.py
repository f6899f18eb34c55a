"""Request body of `POST /run`, and the response to a run that succeeded."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated, Any, TypeAlias

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import PydanticCustomError

from gateway.api.version_pin import exclusive_schema, reject_label_with_version
from gateway.http.body import MAX_MEMBERS
from gateway.http.response import Response
from gateway.json import strict_json
from gateway.runs import rendering
from gateway.runs.model import RunRecord

MAX_START_BEFORE = 604_800
"""Maximum of `start_before` in seconds from now: 7 days."""
RFC3339_PATTERN = r"^\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)$"
_RFC3339 = re.compile(RFC3339_PATTERN, re.ASCII).fullmatch


def _limit_members(value: object) -> object:
    """Reject too many members before they are validated; pydantic itself counts them afterwards."""
    if isinstance(value, dict) and len(value) > MAX_MEMBERS:
        raise PydanticCustomError("too_long", "more than {most} members", {"most": MAX_MEMBERS})
    return value


Metadata: TypeAlias = Annotated[dict[str, str], Field(max_length=MAX_MEMBERS), BeforeValidator(_limit_members)]
"""Strings by name, at most MAX_MEMBERS."""

MAX_TAGS = 10
TAG_PATTERN = "^[A-Za-z0-9_.:/-]{1,64}$"


def _limit_tags(value: object) -> object:
    """Reject what is no list, which pydantic would call a tuple, and too many tags before they are validated."""
    if not isinstance(value, (list, tuple)):
        raise PydanticCustomError("list_type", "Input should be a valid list")
    if len(value) > MAX_TAGS:
        raise PydanticCustomError("too_long", "more than {most} tags", {"most": MAX_TAGS})
    return value


def _require_distinct(tags: tuple[str, ...]) -> tuple[str, ...]:
    if len(tags) != len(set(tags)):
        raise PydanticCustomError("not_distinct", "a tag occurs more than once")
    return tags


Tags: TypeAlias = Annotated[
    tuple[Annotated[str, Field(pattern=TAG_PATTERN)], ...],
    Field(strict=False, max_length=MAX_TAGS, json_schema_extra={"uniqueItems": True}),
    BeforeValidator(_limit_tags),
    AfterValidator(_require_distinct),
]
"""Distinct words, at most MAX_TAGS."""


def _parse_start_before(value: object) -> float | datetime:
    """Return seconds from now as a number, or a time with its offset. Raises PydanticCustomError."""
    if isinstance(value, str) and _RFC3339(value):
        try:
            return datetime.fromisoformat(value.upper())
        except ValueError:
            pass
    elif isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value <= MAX_START_BEFORE:
        return float(value)
    raise PydanticCustomError(
        "start_before",
        "must be seconds, above 0 and at most {most}, or a time such as 2026-11-21T12:00:00Z",
        {"most": MAX_START_BEFORE},
    )


StartBefore: TypeAlias = Annotated[
    float | datetime,
    PlainValidator(_parse_start_before),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "number", "exclusiveMinimum": 0, "maximum": MAX_START_BEFORE},
                {"type": "string", "format": "date-time", "pattern": RFC3339_PATTERN},
            ]
        }
    ),
]
"""Seconds from now, or a time with its offset."""


class RunRequest(BaseModel):
    """The body of `POST /run`."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        frozen=True,
        hide_input_in_errors=True,
        title="RunRequest",
        json_schema_extra={"not": exclusive_schema("label", "version")},
    )

    workflow: Annotated[
        str, Field(min_length=1, max_length=512, description="A workflow alias, or `provider/workflow name`.")
    ]
    input: Annotated[dict[str, Any], Field(description="Input variables of the workflow.")] = {}
    metadata: Annotated[Metadata, Field(description="Stored with the run, at PromptLayer too.")] = {}
    tags: Annotated[
        Tags,
        Field(
            description="Words that `GET /runs?tag=` finds a stored run by. Each has 1 to 64 letters, digits and "
            "characters of `_ - . : /`. No provider receives them."
        ),
    ] = ()
    label: Annotated[
        str | None,
        Field(min_length=1, max_length=512, description="Release label; excludes `version`."),
    ] = None
    version: Annotated[int | None, Field(ge=1, lt=2**31, description="Version number; excludes `label`.")] = None
    return_all_outputs: Annotated[bool, Field(description="Include the output of every node in the response.")] = False
    timeout: Annotated[
        float | None,
        Field(
            gt=0,
            allow_inf_nan=False,
            description="Deadline of the run in seconds; one above the workflow's `max_timeout` counts as that.",
        ),
    ] = None
    start_before: Annotated[
        StartBefore | None,
        Field(
            description="Seconds from now, or a time (RFC 3339), at most 7 days ahead. If no start was sent by then, "
            "such as while the run waits for a limit, it ends as `not_run` with the code `expired`."
        ),
    ] = None
    callback_url: Annotated[
        str | None,
        Field(max_length=2048, description="URL that receives the finished run. The response is then 202, at once."),
    ] = None

    @model_validator(mode="after")
    def _one_of_label_and_version(self) -> RunRequest:
        if self.label is not None:
            reject_label_with_version(self.label, self.version, "label", "version")
        return self


def run_response(run: RunRecord) -> Response:
    """Response to a run that succeeded. The record loses its output, which the client may take long to read."""
    body = strict_json.write(rendering.run_document(run))
    run.output = run.outputs = None
    return Response(200, body, rendering.JSON_CONTENT_TYPE, run.limit_headers)
