"""Members of the top-level object of a JSON text, found in its bytes: the text is not parsed or written as a whole."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import NamedTuple

_START = re.compile(rb"(?:\xef\xbb\xbf)?[ \t\r\n]*\{")
_BLANK = rb"[ \t\r\n]*+"
# Numbers, literals, commas and whitespace; then a string, with the colon that makes it a name, or a bracket.
_TOKEN = re.compile(
    rb'[ \t\r\n,0-9A-Za-z.+-]*+(?:("(?:[^"\\]++|\\.)*+")(' + _BLANK + rb":)?|([\[{])|([\]}]))", re.DOTALL
)
_is_blank = re.compile(_BLANK).fullmatch


class StringMember(NamedTuple):
    """A string value: its span in the text, with its quotes, and the string itself."""

    start: int
    end: int
    value: str


def find_strings(text: bytes, name: str) -> Iterator[StringMember]:
    """Yield each string that is the value of a member `name` of the top-level object, duplicates included.

    Every parser that accepts the text finds the same members: the search ends at a byte that JSON does not have outside
    of strings, such as a comment. Numbers, invalid UTF-8 and lone surrogates do not matter.
    """
    start = _START.match(text)
    if start is None:
        return
    position, depth = start.end(), 1
    value_at = -1  # position after the name and its colon, while the value is awaited
    while depth and (token := _TOKEN.match(text, position)):
        string, colon, opening, _ = token.groups()
        previous, position = value_at, token.end()
        value_at = -1
        if string is None:
            depth += 1 if opening else -1
        elif depth == 1 and colon:
            value_at = position if _decode(string) == name else -1
        elif depth == 1 and previous >= 0 and _is_blank(text, previous, token.start(1)):
            yield StringMember(*token.span(1), _decode(string))


def _decode(string: bytes) -> str:
    """Decode a string with its quotes; "" where it is none."""
    text = string[1:-1].decode(errors="replace")
    if b"\\" not in string:
        return text
    try:
        return str(json.loads(f'"{text}"', strict=False))
    except ValueError:
        return ""
