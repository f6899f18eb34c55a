"""Requests of PromptLayer's API: the workflow name in the path, the body of a run, query parameters.

Source: docs.promptlayer.com, "Run Workflow". Unknown members are ignored, as at PromptLayer: its SDKs send members that
the page does not list.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any
from urllib.parse import unquote

from pydantic import BaseModel, ConfigDict, Field, model_validator

from gateway.api.run_request import Metadata
from gateway.api.version_pin import exclusive_schema, reject_label_with_version
from gateway.http.request import Request
from gateway.problems import Problem, invalid_parameter
from gateway.runs.api_name_index import VersionPin

LABEL_FIELD, VERSION_FIELD = "workflow_label_name", "workflow_version_number"
_MAX_NAME_LENGTH = 512
_MAX_DIGITS = 19  # decimal digits of 2**63
_BOOLEANS: Mapping[str, bool] = MappingProxyType(
    {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}
)


class RunWorkflow(BaseModel):
    """The body of `POST /workflows/{name}/run`. Null equals missing."""

    model_config = ConfigDict(
        extra="ignore",
        strict=True,
        frozen=True,
        hide_input_in_errors=True,
        title="RunWorkflow",
        json_schema_extra={"not": exclusive_schema(LABEL_FIELD, VERSION_FIELD)},
    )

    workflow_label_name: Annotated[str | None, Field(min_length=1, max_length=_MAX_NAME_LENGTH)] = None
    workflow_version_number: Annotated[int | None, Field(ge=1, lt=2**31)] = None
    metadata: Metadata | None = None
    input_variables: dict[str, Any] | None = None
    return_all_outputs: bool | None = None
    callback_url: Annotated[str | None, Field(max_length=2048)] = None
    channel_name_suffix: Annotated[
        str | None,
        Field(
            min_length=1,
            max_length=256,
            description="Identifies the run: a repeated request with it refers to the same run.",
        ),
    ] = None

    @model_validator(mode="after")
    def _one_of_label_and_version(self) -> RunWorkflow:
        label, version = self.pin
        reject_label_with_version(label, version, LABEL_FIELD, VERSION_FIELD)
        return self

    @property
    def pin(self) -> VersionPin:
        """The requested label and version, at most one of which is set."""
        return self.workflow_label_name, self.workflow_version_number


def workflow_name(request: Request) -> str:
    """The workflow's name or id in the path, percent-decoded. Slashes may be encoded or not.

    Raises Problem `workflow_not_found` if it is not valid UTF-8, empty or too long.
    """
    try:
        name = unquote(request.path_param, errors="strict")
        name.encode()
    except UnicodeError:
        name = ""
    if not name or len(name) > _MAX_NAME_LENGTH:
        raise Problem("workflow_not_found", "No workflow has this name.")
    return name


def query_integer(request: Request, name: str, default: int | None = None, *, maximum: int = 2**53) -> int:
    """An integer parameter of the query string, from 1 to `maximum`. Raises Problem `invalid_request`."""
    text = request.query.get(name)
    if text is None and default is not None:
        return default
    if text is None:
        raise invalid_parameter(name, "Field required")
    number = int(text) if text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS else 0
    if not 1 <= number <= maximum:
        raise invalid_parameter(name, f"Input should be a whole number from 1 to {maximum}")
    return number


def query_boolean(request: Request, name: str) -> bool:
    """A boolean parameter of the query string; False if it is missing. Raises Problem `invalid_request`."""
    value = _BOOLEANS.get(request.query.get(name, "false").lower())
    if value is None:
        raise invalid_parameter(name, "Input should be true or false")
    return value
