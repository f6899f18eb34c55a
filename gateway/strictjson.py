"""JSON as RFC 8259 has it, and no more: what is read is exact and bounded, what is written is what was read."""

from __future__ import annotations

import json
from dataclasses import fields
from typing import Any, cast

import orjson
from pydantic_core import PydanticSerializationError, from_json, to_json

from gateway import deep_json
from providers.contract import JsonValue


class NotJson(ValueError):
    """The bytes are not JSON that we accept. Its text never quotes them."""


def read(data: bytes) -> JsonValue:
    """Parse UTF-8 JSON text; integers keep every digit, nesting ends at 200.

    Refuses (`NotJson`) what Python's own parser lets through: NaN, 1e999, a BOM, lone surrogates, bad UTF-8, deep
    nesting, integers beyond what a float can reach (309 digits). Of a doubled key the last value counts.
    """
    try:
        # orjson refuses numbers that overflow, but turns integers beyond 64 bits into floats; pydantic's parser keeps
        # those exactly and bounds the nesting, but lets 1e999 through. Together they cost less than `json.loads`.
        value = from_json(data, allow_inf_nan=False)
        orjson.loads(data)
    except ValueError:
        raise NotJson("not valid JSON") from None
    return cast("JsonValue", value)


def read_unique(data: bytes) -> JsonValue:
    """`read`, and refuse doubled keys too: two readers of such a text may see two different requests."""
    value = read(data)
    # A doubled key is gone once parsed, and its quotes with it. Without escapes that may write a quote in another way,
    # equal counts prove that nothing went; otherwise the slow parser decides.
    if b"\\u" in data or data.count(b'"') != write(value).count(b'"'):
        json.loads(data, object_pairs_hook=_unique)
    return value


def read_stored(data: bytes) -> JsonValue:
    """Parse what `write` wrote: what was taken from others stands deeper in it, and `read` may find that too deep."""
    try:
        return cast("JsonValue", json.loads(data))
    except RecursionError:
        return deep_json.loads(data.decode(), json.JSONDecoder())


def write(value: object) -> bytes:
    """Compact UTF-8 JSON; integers beyond 64 bits keep every digit, nesting has no limit."""
    try:
        return orjson.dumps(value)
    except TypeError:  # an integer beyond 64 bits, or nesting beyond orjson's 254
        pass
    try:
        return to_json(value)
    except PydanticSerializationError:  # nesting beyond pydantic's 254
        pass
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=_members).encode()
    except RecursionError:
        return deep_json.dumps(value)


def _members(value: Any) -> dict[str, object]:
    """Return a dataclass as an object."""
    return {field.name: getattr(value, field.name) for field in fields(value)}


def _unique(pairs: list[tuple[str, object]]) -> None:
    if len(pairs) != len({key for key, _ in pairs}):
        raise NotJson("a key stands twice in one object")
