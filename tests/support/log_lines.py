"""Comparison of log lines with the table of the log's events and fields."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime

from gateway.observability.log_schema import COMMON_FIELDS, COMMON_OPTIONAL, EVENTS, FIELDS, FieldType, LogField
from tests.support.process import LogLine


def lines_in(output: str) -> Iterator[LogLine]:
    """Yield the log lines of an output; text of another form, and a partial line, are left out."""
    for text in output.splitlines():
        if text.startswith('{"time":'):
            try:
                line = json.loads(text)
            except ValueError:  # the process was killed while it wrote
                continue
            yield line


def deviations(lines: Iterable[LogLine]) -> list[str]:
    """Return what in these lines differs from the table, each once, without values."""
    return sorted({found for line in lines for found in _deviations(line)})


def _deviations(line: LogLine) -> Iterator[str]:
    event = EVENTS.get(str(line.get("event")))
    if event is None:
        yield "an event that is not in the table"
        return
    name = str(line["event"])
    required = {*COMMON_FIELDS, *event.fields}
    allowed = {*required, *event.optional, *COMMON_OPTIONAL}
    yield from (f"{name}: without {field}" for field in required - line.keys())
    yield from (f"{name}: with {field}" for field in line.keys() - allowed)
    if event.level not in {"any", line.get("level")}:
        yield f"{name}: level {line.get('level')}"
    for field in line.keys() & allowed:
        if not _conforms(line[field], FIELDS[field]):
            yield f"{name}: {field} is not as documented"


def _conforms(value: object, field: LogField) -> bool:
    if value is None:
        return field.nullable
    return _TYPE_CHECKS[field.type](value) and (not field.values or value in field.values)


def _is_time(value: object) -> bool:
    return isinstance(value, str) and value.endswith("Z") and datetime.fromisoformat(value).tzinfo is not None


_TYPE_CHECKS: Mapping[FieldType, Callable[[object], bool]] = {
    "text": lambda value: isinstance(value, str),
    "time": _is_time,
    "integer": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "number": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
    "boolean": lambda value: isinstance(value, bool),
    "list of texts": lambda value: isinstance(value, list) and all(isinstance(each, str) for each in value),
}
