"""Reference page of the log, docs/logs.md: `python -m gateway.observability.log_reference > docs/logs.md`."""

from __future__ import annotations

import sys

from gateway.observability.log_schema import COMMON_FIELDS, COMMON_OPTIONAL, EVENTS, FIELDS, LogEvent, LogField

_HEAD = """\
# Log

Each line on standard output is one JSON object (`logs.format: json`), with the fields below and no others. A field has
one type and one meaning in every event, no value is an object, and no line contains inputs, outputs, keys or texts of a
provider. Names of events and fields are stable: a change is in the changelog. Ignore events and fields that you do not
know: versions add some.
"""
_FOOT = """
This page is generated: `make log-reference` writes it from the table in `gateway/observability/log_schema.py`.
"""


def log_page() -> str:
    """The page in Markdown: a row for each event, and one for each field, by name."""
    events = "".join(_event_row(name, event) for name, event in EVENTS.items())
    fields = "".join(_field_row(name, field) for name, field in FIELDS.items())
    common, some = (", ".join(f"`{name}`" for name in names) for names in (COMMON_FIELDS, COMMON_OPTIONAL))
    return (
        _HEAD
        + f"\n## Events\n\nEvery line has {common}; those of a worker process have {some} too.\n\n"
        + "| event | level | meaning | fields | fields that may be absent |\n|---|---|---|---|---|\n"
        + events
        + "\n## Fields\n\n| field | type | meaning |\n|---|---|---|\n"
        + fields
        + _FOOT
    )


def _event_row(name: str, event: LogEvent) -> str:
    fields, optional = (", ".join(f"`{each}`" for each in names) for names in (event.fields, event.optional))
    return f"| `{name}` | {event.level} | {event.meaning} | {fields} | {optional} |\n"


def _field_row(name: str, field: LogField) -> str:
    values = f" One of {', '.join(f'`{value}`' for value in field.values)}." if field.values else ""
    return f"| `{name}` | {field.type}{' or null' * field.nullable} | {field.meaning}{values} |\n"


if __name__ == "__main__":
    sys.stdout.write(log_page())
