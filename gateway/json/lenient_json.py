"""Lenient JSON of provider responses: the output was paid for, so what is not valid JSON is repaired and reported.

Requests are read by `strict_json`. Up to about 900 levels of nesting are bounded by the size of the response alone; a
text that is nested deeper has 200 000 characters at most. The result can be written, stored and read again.
"""

from __future__ import annotations

import json
import math
import re
from typing import NamedTuple, cast

from gateway.json import nonrecursive_json, strict_json
from providers.contract import JsonValue

BOM_SKIPPED = "a byte order mark was skipped"
UNICODE_REPLACED = "invalid Unicode was replaced by U+FFFD"
NUMBERS_REPLACED = "numbers that JSON cannot express (NaN, Infinity, out of range) were replaced by null"
CONTROL_CHARACTERS_KEPT = "unescaped control characters were kept"
DEEPLY_NESTED = "its nesting is deeper than 200 levels"

_MAX_DEEP_TEXT = 200_000  # characters: the event loop waits for the slow parser
_BOM = b"\xef\xbb\xbf"
_MAX_INTEGER_DIGITS = 308  # a float can reach; JavaScript reads a longer integer as Infinity
_ESCAPE = re.compile(
    r"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|u([dD][89a-fA-F])[0-9a-fA-F]{2}|.)", re.DOTALL
)
_CONTROL_CHARACTER = re.compile(r"[\x00-\x1f]")


class Repaired(NamedTuple):
    """Parsed document, and what was repaired in it: the constants of this module."""

    value: JsonValue
    repairs: tuple[str, ...] = ()


def read(data: bytes) -> Repaired:
    """Parse UTF-8 JSON. Raises `strict_json.NotJson` for what cannot be repaired: HTML, a truncated text, nothing."""
    try:
        return Repaired(strict_json.read(data))
    except strict_json.NotJson:
        pass
    try:
        return _Repair().read(data)
    except ValueError:
        raise strict_json.NotJson("not valid JSON") from None


class _Repair:
    """Reader of one document that collects its repairs."""

    def __init__(self) -> None:
        self._repairs: dict[str, None] = {}

    def read(self, data: bytes) -> Repaired:
        """Parse the document; ValueError where it is not JSON after all repairs."""
        value = self._parse(self._replace_surrogates(self._decode(data)))
        if DEEPLY_NESTED not in self._repairs and not _is_strict(value):
            self._note(DEEPLY_NESTED)
        return Repaired(value, tuple(self._repairs))

    def _note(self, repair: str) -> None:
        self._repairs[repair] = None

    def _decode(self, data: bytes) -> str:
        if data.startswith(_BOM):
            self._note(BOM_SKIPPED)
            data = data[len(_BOM) :]
        try:
            return data.decode()
        except UnicodeDecodeError:
            self._note(UNICODE_REPLACED)
            return data.decode(errors="replace")

    def _replace_surrogates(self, text: str) -> str:
        r"""Replace escapes of lone surrogates by \ufffd; a backslash stands in strings only."""
        return _ESCAPE.sub(self._replace_escape, text) if "\\u" in text else text

    def _replace_escape(self, escape: re.Match[str]) -> str:
        if escape[1] is None:
            return escape[0]
        self._note(UNICODE_REPLACED)
        return r"\ufffd"

    def _parse(self, text: str) -> JsonValue:
        decoder = json.JSONDecoder(
            parse_float=self._parse_float, parse_int=self._parse_integer, parse_constant=self._parse_constant
        )
        try:
            return self._loads(text, decoder)
        except ValueError:
            if not _CONTROL_CHARACTER.search(text):
                raise
        decoder = json.JSONDecoder(
            parse_float=self._parse_float,
            parse_int=self._parse_integer,
            parse_constant=self._parse_constant,
            strict=False,
        )
        value = self._loads(text, decoder)
        self._note(CONTROL_CHARACTERS_KEPT)
        return value

    def _loads(self, text: str, decoder: json.JSONDecoder) -> JsonValue:
        try:
            return cast("JsonValue", decoder.decode(text))
        except RecursionError:
            if len(text) > _MAX_DEEP_TEXT:
                raise ValueError("nested too deeply for its size") from None
            self._note(DEEPLY_NESTED)
            return nonrecursive_json.loads(text, decoder)

    def _parse_float(self, text: str) -> float | None:
        number = float(text)
        if math.isfinite(number):
            return number
        self._note(NUMBERS_REPLACED)
        return None

    def _parse_integer(self, text: str) -> int | None:
        if len(text.lstrip("-")) <= _MAX_INTEGER_DIGITS:
            return int(text)
        self._note(NUMBERS_REPLACED)
        return None

    def _parse_constant(self, _: str) -> None:
        self._note(NUMBERS_REPLACED)


def _is_strict(value: JsonValue) -> bool:
    try:
        strict_json.read(strict_json.write(value))
    except strict_json.NotJson:
        return False
    return True
