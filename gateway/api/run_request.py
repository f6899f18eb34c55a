"""Request body of `POST /run`, and the response to a run that succeeded."""

from __future__ import annotations

from typing import Annotated, Any, TypeAlias

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from gateway.api.version_pin import exclusive_schema, reject_label_with_version
from gateway.http.body import MAX_MEMBERS
from gateway.http.response import Response, make_response
from gateway.json import strict_json
from gateway.runs import rendering
from gateway.runs.model import RunRecord


def _limit_members(value: object) -> object:
    """Reject too many members before they are validated; pydantic itself counts them afterwards."""
    if isinstance(value, dict) and len(value) > MAX_MEMBERS:
        raise PydanticCustomError("too_long", "more than {most} members", {"most": MAX_MEMBERS})
    return value


Metadata: TypeAlias = Annotated[dict[str, str], Field(max_length=MAX_MEMBERS), BeforeValidator(_limit_members)]
"""Strings by name, at most MAX_MEMBERS."""


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
            description="Deadline of the run in seconds, at most the workflow's `max_timeout`.",
        ),
    ] = None
    callback_url: Annotated[
        str | None,
        Field(max_length=2048, description="URL that receives the finished run. The response is then 202, at once."),
    ] = None

    @model_validator(mode="after")
    def _one_of_label_and_version(self) -> RunRequest:
        reject_label_with_version(self.label, self.version, "label", "version")
        return self


def run_response(run: RunRecord) -> Response:
    """Response to a run that succeeded. The record loses its output, which the client may take long to read."""
    body = strict_json.write(rendering.run_document(run))
    run.output = run.outputs = None
    return make_response(200, body, rendering.JSON_CONTENT_TYPE, run.limit_headers)
