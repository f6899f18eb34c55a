"""JSON of any nesting depth, read and written without recursion: slower than `strict_json`, bounded by bytes alone."""

from __future__ import annotations

import json
from dataclasses import fields, is_dataclass
from typing import Any, cast

import orjson
from pydantic_core import to_json

from providers.contract import JsonValue

_WHITESPACE = " \t\n\r"


def loads(text: str, decoder: json.JSONDecoder) -> JsonValue:
    """Parse a text; `decoder` parses keys and scalars with its own rules. Raises ValueError where it is not JSON."""
    return _Reader(text, decoder).read()


def dumps(value: object) -> bytes:
    """Write compact UTF-8 JSON; a dataclass is written as an object."""
    written: list[bytes] = []
    pending: list[object] = [value]  # values to write, and bytes to copy, the next one last
    while pending:
        item = pending.pop()
        if isinstance(item, bytes):
            written.append(item)
        elif isinstance(item, list | tuple):
            pending.extend(_reversed_list(item))
        elif isinstance(item, dict):
            pending.extend(_reversed_object(item))
        elif is_dataclass(item) and not isinstance(item, type):
            pending.extend(_reversed_object({each.name: getattr(item, each.name) for each in fields(item)}))
        else:
            written.append(_dump_scalar(item))
    return b"".join(written)


def _reversed_list(items: list[Any] | tuple[Any, ...]) -> list[object]:
    parts: list[object] = [b"]"]
    for item in reversed(items):
        parts += (item, b",")
    parts[-1:] = [b"["] if items else [b"]", b"["]
    return parts


def _reversed_object(members: dict[str, Any]) -> list[object]:
    parts: list[object] = [b"}"]
    for name in reversed(members):
        parts += (members[name], b":", _dump_scalar(name), b",")
    parts[-1:] = [b"{"] if members else [b"}", b"{"]
    return parts


def _dump_scalar(value: object) -> bytes:
    try:
        return orjson.dumps(value)
    except TypeError:  # an integer beyond 64 bits
        return to_json(value)


class _Reader:
    """Parser with a stack of the open containers; `_keys` has the pending key of each open object."""

    def __init__(self, text: str, decoder: json.JSONDecoder) -> None:
        self._text, self._at = text, 0
        self._decoder = decoder
        self._open: list[list[JsonValue] | dict[str, JsonValue]] = []
        self._keys: list[str] = []

    def read(self) -> JsonValue:
        """Parse the whole text."""
        while True:
            value, is_complete = self._read_value()
            while is_complete:
                if not self._open:
                    if self._peek():
                        raise ValueError("trailing data")
                    return value
                value, is_complete = self._attach(value)

    def _read_value(self) -> tuple[JsonValue, bool]:
        """Read a scalar or an empty container; or open a container, which is not complete yet."""
        character = self._peek()
        if character not in {"[", "{"}:
            value, self._at = self._decoder.raw_decode(self._text, self._at)
            return cast("JsonValue", value), True
        self._at += 1
        container: list[JsonValue] | dict[str, JsonValue] = [] if character == "[" else {}
        if self._peek() == ("]" if character == "[" else "}"):
            self._at += 1
            return container, True
        self._open.append(container)
        if isinstance(container, dict):
            self._keys.append(self._read_key())
        return None, False

    def _attach(self, value: JsonValue) -> tuple[JsonValue, bool]:
        """Add a value to the innermost container; return that container if it ends here."""
        container = self._open[-1]
        if isinstance(container, list):
            container.append(value)
        else:
            container[self._keys[-1]] = value
        character = self._peek()
        self._at += 1
        if character == ",":
            if isinstance(container, dict):
                self._keys[-1] = self._read_key()
            return None, False
        if character != ("]" if isinstance(container, list) else "}"):
            raise ValueError("a container is not closed")
        if isinstance(container, dict):
            self._keys.pop()
        return self._open.pop(), True

    def _read_key(self) -> str:
        if self._peek() != '"':
            raise ValueError("a key is not a string")
        key, self._at = self._decoder.raw_decode(self._text, self._at)
        if self._peek() != ":":
            raise ValueError("a key has no value")
        self._at += 1
        return cast("str", key)

    def _peek(self) -> str:
        """Skip whitespace; return the next character, or "" at the end."""
        text, at = self._text, self._at
        while text[at : at + 1] and text[at] in _WHITESPACE:
            at += 1
        self._at = at
        return text[at : at + 1]
