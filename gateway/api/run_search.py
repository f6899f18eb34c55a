"""Query of a list of runs: its conditions, and the cursor of the next page. `api.admin.run_search` adds conditions."""

from __future__ import annotations

import math
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Collection, Mapping
from dataclasses import fields, replace
from datetime import datetime
from hashlib import sha256
from types import MappingProxyType
from typing import Any, TypeAlias

from multidict import MultiMapping

from gateway.api.run_request import MAX_TAGS, TAG_PATTERN
from gateway.problems import PROBLEMS, invalid_parameter
from gateway.store.records import RunPage
from gateway.store.run_filter import Position, RunFilter

STATUSES = ("queued", "running", "succeeded", "failed", "unknown", "not_run")
MAX_LIMIT = 100
MAX_METADATA = 10
"""Maximum of conditions on metadata."""
MAX_TEXT = 512
ID_PATTERN = "^run_[0-9a-f]{8,32}$"
WHOLE_ID_PATTERN = "^run_[0-9a-f]{32}$"
SECONDS_PATTERN = r"^[0-9]{1,9}(\.[0-9]{1,6})?$"
METADATA_PREFIX = "meta."

Parameters: TypeAlias = Mapping[str, tuple[str, Callable[[str, str], Any]]]
"""Parameters that are given once: the field of `RunFilter`, and the function that reads the value.

The function gets name and text, and raises Problem for a text without a meaning.
"""

_RFC_3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)", re.ASCII)
_TIME_DETAIL = "must be a time as in RFC 3339, such as 2026-11-21T12:00:00Z; a plus sign is written %2B"
_TAG_DETAIL = "must have 1 to 64 letters, digits and characters of _ - . : /"
_PAGE_FIELDS = frozenset({"limit", "before", "max_examined"})
_MAX_SHOWN_NAME = 100  # characters


def parse_run_filter(
    query: MultiMapping[str], client: str | None, further: Parameters = MappingProxyType({})
) -> RunFilter:
    """Return the runs of a client, or of all, that a query selects; it may have `further` parameters.

    Raises Problem for unknown parameters, and for values without a meaning.
    """
    parameters = {**_PARAMETERS, **further}
    values: dict[str, Any] = {}
    tags: set[str] = set()
    metadata: dict[str, str] = {}
    for name, text in query.items():
        if name == "tag":
            tags.add(_matching(name, text, TAG_PATTERN, _TAG_DETAIL))
        elif name.startswith(METADATA_PREFIX):
            _add_metadata(metadata, name, text)
        elif name in parameters:
            field_name, parse = parameters[name]
            if field_name in values:
                raise invalid_parameter(name, "must be given once")
            values[field_name] = parse(name, text)
        else:
            raise invalid_parameter(name[:_MAX_SHOWN_NAME], "is not a parameter of this list")
    if len(tags) > MAX_TAGS:
        raise invalid_parameter("tag", f"must be given at most {MAX_TAGS} times")
    cursor = values.pop("cursor", None)
    values.setdefault("client", client)
    run_filter = RunFilter(tags=tuple(sorted(tags)), metadata=tuple(sorted(metadata.items())), **values)
    _check_ranges(run_filter)
    return run_filter if cursor is None else replace(run_filter, before=_decode_cursor(cursor, run_filter))


def next_cursor(page: RunPage, run_filter: RunFilter) -> str | None:
    """Return the cursor of the page after this one; None if this one is the last."""
    last = page.runs[-1] if len(page.runs) == run_filter.limit else None
    position = page.stopped_at if last is None else (last.created_at, last.id)
    return None if position is None else encode_cursor(position, run_filter)


def encode_cursor(position: Position, run_filter: RunFilter) -> str:
    """Return the cursor of the page that begins after a position; it is valid for the same conditions only."""
    created_at, run_id = position
    return urlsafe_b64encode(f"{created_at!r}:{run_id}:{_fingerprint(run_filter)}".encode()).decode()


def _decode_cursor(text: str, run_filter: RunFilter) -> Position:
    try:
        created_at, run_id, fingerprint = urlsafe_b64decode(text.encode()).decode("ascii").split(":")
        timestamp = float(created_at)
    except ValueError:
        timestamp, run_id, fingerprint = math.nan, "", ""
    if not math.isfinite(timestamp):
        raise invalid_parameter("cursor", "must be `next` of an earlier response")
    if fingerprint != _fingerprint(run_filter):
        raise invalid_parameter("cursor", "is of a list with other conditions")
    return timestamp, run_id


def _fingerprint(run_filter: RunFilter) -> str:
    """Return a hash of the conditions. It does not change when a later version adds one."""
    values = [(field, getattr(run_filter, field.name)) for field in fields(RunFilter) if field.name not in _PAGE_FIELDS]
    given = [(field.name, value) for field, value in values if value != field.default]
    return sha256(repr(given).encode()).hexdigest()[:16]


def _add_metadata(metadata: dict[str, str], name: str, text: str) -> None:
    key = name.removeprefix(METADATA_PREFIX)
    pointer = name[:_MAX_SHOWN_NAME]
    if key in metadata:
        raise invalid_parameter(pointer, "must be given once")
    if len(metadata) == MAX_METADATA:
        raise invalid_parameter(pointer, f"at most {MAX_METADATA} conditions on metadata are possible")
    if not key or not _is_unicode(key + text):
        raise invalid_parameter(pointer, "must be `meta.` and the name of a value, with a text")
    metadata[key] = text


def _check_ranges(run_filter: RunFilter) -> None:
    if _senseless(run_filter.created_from, run_filter.created_until, or_equal=True):
        raise invalid_parameter("created_before", "must be later than created_after")
    if _senseless(run_filter.min_duration, run_filter.max_duration):
        raise invalid_parameter("max_duration", "must not be less than min_duration")


def _senseless(low: float | None, high: float | None, *, or_equal: bool = False) -> bool:
    return low is not None and high is not None and (low > high or (or_equal and low == high))


def _parse_limit(name: str, text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 4 and 1 <= int(text) <= MAX_LIMIT):
        raise invalid_parameter(name, f"must be a whole number from 1 to {MAX_LIMIT}")
    return int(text)


def _parse_cursor(_name: str, text: str) -> str:
    return text


def _parse_status(name: str, text: str) -> str:
    return one_of(name, text, STATUSES)


def _parse_code(name: str, text: str) -> str:
    return one_of(name, text, PROBLEMS)


def one_of(name: str, text: str, values: Collection[str]) -> str:
    """Return the text of a parameter. Raises Problem if it is not one of `values`."""
    if text not in values:
        raise invalid_parameter(name, "must be one of " + ", ".join(sorted(values)))
    return text


def parse_text(name: str, text: str) -> str:
    """Return the text of a parameter. Raises Problem if it is empty, too long or not Unicode."""
    if not 1 <= len(text) <= MAX_TEXT or not _is_unicode(text):
        raise invalid_parameter(name, f"must have 1 to {MAX_TEXT} characters")
    return text


def _parse_id(name: str, text: str) -> str:
    return _matching(name, text, ID_PATTERN, "must be `run_` and the first 8 to 32 hexadecimal digits of an id")


def _parse_whole_id(name: str, text: str) -> str:
    return _matching(name, text, WHOLE_ID_PATTERN, "must be the id of a run")


def parse_time(name: str, text: str) -> float:
    """Return the time of a parameter in seconds since 1970. Raises Problem if it is not as in RFC 3339."""
    if not _RFC_3339.fullmatch(text):
        raise invalid_parameter(name, _TIME_DETAIL)
    try:
        return datetime.fromisoformat(text.upper()).timestamp()
    except (ValueError, OverflowError):
        raise invalid_parameter(name, _TIME_DETAIL) from None


def _parse_seconds(name: str, text: str) -> float:
    return float(_matching(name, text, SECONDS_PATTERN, "must be a number of seconds, such as 30 or 1.5"))


def _matching(name: str, text: str, pattern: str, detail: str) -> str:
    if not re.fullmatch(pattern, text):
        raise invalid_parameter(name, detail)
    return text


def _is_unicode(text: str) -> bool:
    """Return False for a lone surrogate, which no stored text has."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


_PARAMETERS: Parameters = {
    "limit": ("limit", _parse_limit),
    "cursor": ("cursor", _parse_cursor),
    "status": ("status", _parse_status),
    "workflow": ("workflow", parse_text),
    "provider": ("provider", parse_text),
    "provider_run_id": ("provider_run_id", parse_text),
    "code": ("code", _parse_code),
    "id": ("id_prefix", _parse_id),
    "replay_of": ("replay_of", _parse_whole_id),
    "created_after": ("created_from", parse_time),
    "created_before": ("created_until", parse_time),
    "min_duration": ("min_duration", _parse_seconds),
    "max_duration": ("max_duration", _parse_seconds),
}
"""Parameters of every list."""
