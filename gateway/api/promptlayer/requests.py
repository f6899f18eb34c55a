"""What a client of PromptLayer's API asks for: the name in the path, the body of a run, the words of a query.

Source: docs.promptlayer.com, "Run Workflow". Unknown members are ignored, as PromptLayer does: SDKs send more than its
page has.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any
from urllib.parse import unquote

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic.config import JsonDict
from pydantic_core import PydanticCustomError

from gateway.http.body import Metadata
from gateway.http.server import Request
from gateway.problems import FieldError, Problem
from gateway.runs.workflow_aliases import VersionPin

LABEL_FIELD, VERSION_FIELD = "workflow_label_name", "workflow_version_number"
_MAX_NAME_LENGTH = 512
_MAX_DIGITS = 19  # as many as 2**63 has
_BOOLEANS: Mapping[str, bool] = MappingProxyType(
    {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}
)
_LABEL_AND_VERSION: JsonDict = {
    "required": [LABEL_FIELD, VERSION_FIELD],
    "properties": {LABEL_FIELD: {"type": "string"}, VERSION_FIELD: {"type": "integer"}},
}


class RunWorkflow(BaseModel):
    """The body of `POST /workflows/{name}/run`. What is null counts as missing."""

    model_config = ConfigDict(
        extra="ignore",
        strict=True,
        frozen=True,
        hide_input_in_errors=True,
        title="RunWorkflow",
        json_schema_extra={"not": _LABEL_AND_VERSION},  # what `_one_of_label_and_version` checks
    )

    workflow_label_name: Annotated[str | None, Field(min_length=1, max_length=_MAX_NAME_LENGTH)] = None
    workflow_version_number: Annotated[int | None, Field(ge=1, lt=2**31)] = None
    metadata: Metadata | None = None
    input_variables: dict[str, Any] | None = None
    return_all_outputs: bool | None = None
    callback_url: Annotated[str | None, Field(max_length=2048)] = None
    channel_name_suffix: Annotated[
        str | None,
        Field(min_length=1, max_length=256, description="Names the run: sent again, it is the same run."),
    ] = None

    @model_validator(mode="after")
    def _one_of_label_and_version(self) -> RunWorkflow:
        if self.workflow_label_name is not None and self.workflow_version_number is not None:
            raise PydanticCustomError("exclusive", f"{LABEL_FIELD} and {VERSION_FIELD} are mutually exclusive")
        return self

    @property
    def pin(self) -> VersionPin:
        """The label or version that is asked for."""
        return self.workflow_label_name, self.workflow_version_number


def workflow_name(request: Request) -> str:
    """The workflow's name or id in the path: slashes and all else may be percent-encoded or not.

    Raises Problem("workflow_not_found") where it can not be one.
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
    """A whole number of the query, from 1 to `most`. Raises Problem("invalid_request")."""
    text = request.query.get(name)
    if text is None and default is not None:
        return default
    if text is None:
        raise _invalid_parameter(name, "Field required")
    number = int(text) if text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS else 0
    if not 1 <= number <= maximum:
        raise _invalid_parameter(name, f"Input should be a whole number from 1 to {maximum}")
    return number


def query_boolean(request: Request, name: str) -> bool:
    """A yes or no of the query; no where it is missing. Raises Problem("invalid_request")."""
    value = _BOOLEANS.get(request.query.get(name, "false").lower())
    if value is None:
        raise _invalid_parameter(name, "Input should be true or false")
    return value


def _invalid_parameter(name: str, detail: str) -> Problem:
    return Problem("invalid_request", "1 thing(s) are wrong.", errors=(FieldError(f"?{name}", detail),))
