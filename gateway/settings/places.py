"""Turns pydantic's errors into complaints that people can act on: the place, our own words, no value."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from gateway.settings.complaints import MOST, Loc, dotted, hint
from gateway.settings.model import Settings

_WORDS = {
    "missing": "is required",
    "string_type": "must be a text (a number or date needs quotes)",
    "literal_error": "must be {expected}",
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
_FAMILIES = {"int": "must be a whole number", "bool": "must be true or false", "finite": "must be a whole number"}
"""Errors by the first part of their type: int_parsing, int_from_float and so on."""


def complaints(error: ValidationError, labels: Mapping[Loc, str]) -> Iterator[tuple[str, str]]:
    """Yield (place, complaint) for what is wrong, as far as anybody would read.

    `labels` says where settings were written.
    """
    errors = error.errors(include_url=False, include_input=False)
    for detail in errors[:MOST]:
        loc = tuple(part for part in detail["loc"] if part != "[key]")
        if detail["type"] != "default_factory_not_called":  # the field it depends on has its own complaint
            yield f"{written(loc, labels)} {dotted(loc)}".strip(), _words(detail, loc)
    if len(errors) > MOST:
        yield written((), labels), f"and {len(errors) - MOST} more complaints"


def written(loc: Loc, labels: Mapping[Loc, str]) -> str:
    """Say where a setting was written, or what it would be part of."""
    for end in range(len(loc), -1, -1):
        if loc[:end] in labels:
            return labels[loc[:end]]
    return ""


def _words(detail: ErrorDetails, loc: Loc) -> str:
    kind = detail["type"]
    if kind == "extra_forbidden":
        return "unknown key" + hint(str(loc[-1]), _keys(loc[:-1]))
    if kind in _WORDS:
        return _WORDS[kind].format_map(detail.get("ctx", {}))
    return _FAMILIES.get(kind.partition("_")[0], "is not acceptable")


def _keys(loc: Loc) -> list[str]:
    """List the keys that the model has at this place."""
    kind: Any = Settings
    for part in loc:
        fields = getattr(kind, "model_fields", {})
        kind = _model_in(fields[part].annotation) if part in fields else kind
    return list(getattr(kind, "model_fields", {}))


def _model_in(annotation: Any) -> Any:
    """Find the section in dict[Name, Section] or tuple[Section, ...]; a name or index in the way is passed over."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for inner in get_args(annotation) if (found := _model_in(inner))), None)
