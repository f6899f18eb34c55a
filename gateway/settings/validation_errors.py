"""Translation of pydantic's errors: location and a fixed message, never a value."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from gateway.settings.errors import MAX_ERRORS, Location, did_you_mean, format_location
from gateway.settings.model import Settings

_MESSAGES = {
    "missing": "is required",
    "string_type": "must be a text (a number or date needs quotes)",
    "literal_error": "must be {expected}",
    "greater_than": "must be more than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than_equal": "must be at most {le}",
    "too_short": "must have at least {min_length}",
    "too_long": "must have at most {max_length}",
    "model_type": "must be a mapping (key: value)",
    "dict_type": "must be a mapping (key: value)",
    "tuple_type": "must be a list",
    "path_type": "must be a path",
    "path_not_file": "names no file",
    "setting": "{complaint}",
    "value_error": "{error}",
}
_MESSAGES_BY_PREFIX = {
    "int": "must be a whole number",
    "bool": "must be true or false",
    "finite": "must be a whole number",
    "float": "must be a number",
}
"""Messages by the first part of the error type: int_parsing, int_from_float."""


def describe_errors(error: ValidationError, labels: Mapping[Location, str]) -> Iterator[tuple[str, str]]:
    """Yield (place, message) for each error, at most MAX_ERRORS. `labels` has the origins of settings."""
    errors = error.errors(include_url=False, include_input=False)
    for detail in errors[:MAX_ERRORS]:
        location = tuple(part for part in detail["loc"] if part != "[key]")
        if detail["type"] != "default_factory_not_called":  # the field that it depends on has its own error
            yield f"{source_label(location, labels)} {format_location(location)}".strip(), _message(detail, location)
    if len(errors) > MAX_ERRORS:
        yield source_label((), labels), f"and {len(errors) - MAX_ERRORS} more errors"


def source_label(location: Location, labels: Mapping[Location, str]) -> str:
    """Origin of a setting, or of the closest section that contains it."""
    for end in range(len(location), -1, -1):
        if location[:end] in labels:
            return labels[location[:end]]
    return ""


def _message(detail: ErrorDetails, location: Location) -> str:
    error_type = detail["type"]
    if error_type == "extra_forbidden":
        return "unknown key" + did_you_mean(str(location[-1]), _known_keys(location[:-1]))
    if error_type in _MESSAGES:
        return _MESSAGES[error_type].format_map(detail.get("ctx", {}))
    return _MESSAGES_BY_PREFIX.get(error_type.partition("_")[0], "is not acceptable")


def _known_keys(location: Location) -> list[str]:
    """Keys of the model at this location."""
    section: Any = Settings
    for part in location:
        fields = getattr(section, "model_fields", {})
        section = _nested_model(fields[part].annotation) if part in fields else section
    return [field.alias or name for name, field in getattr(section, "model_fields", {}).items()]


def _nested_model(annotation: Any) -> Any:
    """Section type in dict[Name, Section] or tuple[Section, ...]; names and indexes are skipped."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for inner in get_args(annotation) if (found := _nested_model(inner))), None)
