"""Strict JSON (RFC 8259): a bounded parser that keeps every digit of integers, and a compact serializer."""

from __future__ import annotations

import json
from dataclasses import fields
from typing import Any, cast

import orjson
from pydantic_core import PydanticSerializationError, from_json, to_json

from gateway.json import nonrecursive_json
from providers.contract import JsonValue

_WHITESPACE = b" \t\r\n"


class NotJson(ValueError):
    """The bytes are not acceptable JSON. The message never quotes them."""


def read(data: bytes) -> JsonValue:
    """Parse UTF-8 JSON text. Integers keep every digit; the maximum nesting is 200.

    Raises NotJson also for NaN, 1e999, a BOM, lone surrogates, invalid UTF-8, deeper nesting, and integers beyond the
    range of a float (309 digits), which Python's own parser accepts. The last value of a duplicate key counts.
    """
    try:
        # orjson refuses numbers that overflow, but reads integers beyond 64 bits as floats; pydantic's parser reads
        # these exactly and bounds the nesting, but accepts 1e999. Both together are faster than `json.loads`.
        value: JsonValue = from_json(data, allow_inf_nan=False)
        orjson.loads(data)
    except ValueError:
        raise NotJson("not valid JSON") from None
    return value


def read_unique(data: bytes) -> JsonValue:
    """Parse as `read`, and refuse duplicate keys: two parsers may read different requests from such a text."""
    try:
        value: JsonValue = from_json(data, allow_inf_nan=False)
    except ValueError:
        raise NotJson("not valid JSON") from None
    try:
        written = orjson.dumps(value)
    except TypeError:  # an integer beyond 64 bits
        written = b""
    # The usual text is what orjson writes for its value, white space aside. Then it has no duplicate key, because the
    # value has none, and no number that overflows or that orjson reads as another.
    if written == data or written.translate(None, _WHITESPACE) == data.translate(None, _WHITESPACE):
        return value
    value = read(data)
    # A parsed value lacks a duplicate key, and its quotes. Without unicode escapes, which can encode a quote, equal
    # counts of quotes prove that there is none; otherwise the slow parser decides.
    if data.find(b"\\u") >= 0 or data.count(b'"') != write(value).count(b'"'):
        json.loads(data, object_pairs_hook=_unique)
    return value


def read_stored(data: bytes) -> JsonValue:
    """Parse output of `write`. No limit of nesting: values that `read` accepted are nested deeper in documents."""
    try:
        return cast("JsonValue", json.loads(data))
    except RecursionError:
        return nonrecursive_json.loads(data.decode(), json.JSONDecoder())


def write(value: object) -> bytes:
    """Serialize to compact UTF-8 JSON. Integers beyond 64 bits keep every digit; nesting has no limit."""
    try:
        return orjson.dumps(value)
    except TypeError:  # an integer beyond 64 bits, or nesting beyond orjson's limit of 254
        pass
    try:
        return to_json(value)
    except PydanticSerializationError:  # nesting beyond pydantic's 254
        pass
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=_members).encode()
    except RecursionError:
        return nonrecursive_json.dumps(value)


def _members(value: Any) -> dict[str, object]:
    """Return a dataclass as an object."""
    return {field.name: getattr(value, field.name) for field in fields(value)}


def _unique(pairs: list[tuple[str, object]]) -> None:
    if len(pairs) != len({key for key, _ in pairs}):
        raise NotJson("not acceptable: an object has a duplicate key")
