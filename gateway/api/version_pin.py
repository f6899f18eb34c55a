"""Label or version of a workflow that a request names: applied or refused, never ignored."""

from __future__ import annotations

from pydantic.config import JsonDict
from pydantic_core import PydanticCustomError

from gateway.problems import FieldError, Problem, invalid_body, invalid_parameter
from gateway.runs.api_name_index import VersionPin
from gateway.runs.catalog import Workflow

RUN_POINTERS = ("/label", "/version")
"""JSON pointers to the label and the version in the body of `POST /run`."""


def exclusive_schema(label_field: str, version_field: str) -> JsonDict:
    """JSON Schema of a body that has both a label and a version: what `reject_label_with_version` refuses."""
    return {
        "required": [label_field, version_field],
        "properties": {label_field: {"type": "string"}, version_field: {"type": "integer"}},
    }


def reject_label_with_version(
    label: str | None, version: int | str | None, label_field: str, version_field: str
) -> None:
    """Raise PydanticCustomError if a body has both."""
    if label is not None and version is not None:
        raise PydanticCustomError("exclusive", f"{label_field} and {version_field} are mutually exclusive")


def check_pin(workflow: Workflow, pin: VersionPin, pointers: tuple[str, str] = RUN_POINTERS) -> None:
    """Raise Problem `invalid_request` if a label or version would be ignored.

    One that equals the label or version of the configuration is accepted. `pointers`: of the label and the version.
    """
    reason = workflow.refuses_pin(pin)
    if reason is not None:
        raise _invalid_field(pointers[0] if pin[0] is not None else pointers[1], reason)


def _invalid_field(pointer: str, reason: str) -> Problem:
    if pointer.startswith("?"):
        return invalid_parameter(pointer[1:], reason)
    return invalid_body(FieldError(pointer, reason))
