"""Redaction: parts of a recorded input and output are replaced by a fixed text, by their place or by their form.

The time of a search is bounded: an own pattern has no groups and no unbounded repetition, and at each position of a
text it can be tried in at most MAX_WAYS ways, which compare at most MAX_STEPS characters in all.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from providers.contract import JsonValue

REDACTED = "[redacted]"
"""What replaces a redacted value, or the part of a text that a pattern matches."""
MAX_POINTER = 500
MAX_PATTERN = 200
MAX_WAYS = 64
MAX_STEPS = 1_000
"""Longest pointer and own pattern, in characters; ways in which an own pattern may be tried at one position, and how
many characters all of them may compare."""
MAX_OWN_PATTERNS = 10
POINTER_PATTERN = r"^/(input|output)(/([^/~]|~[01])*)*$"

_MAX_DEPTH = 250  # of nested values; deeper ones are redacted
_Pointer: TypeAlias = tuple[str, ...]

_CLASS = r"\[\^?(?:\\.|(?!--|&&|\|\||~~)[^\[\]\\])+\]"
_ATOM = rf"(?:\\[dDwWsSbB]|\\[^A-Za-z0-9]|{_CLASS}|[^\\\[\](){{}}.*+?|^$])"
_PART = re.compile(rf"{_ATOM}(?:(?P<optional>\?)|\{{(?P<least>[0-9]{{1,3}})(?:,(?P<most>[0-9]{{1,3}}))?\}})?")

_ADDRESS = r"""[^\s@<>"'(),:;]"""

NAMED_PATTERNS: Mapping[str, re.Pattern[str]] = {
    "email": re.compile(rf"(?<!{_ADDRESS}){_ADDRESS}++@{_ADDRESS}{{1,255}}"),
    "card": re.compile(r"[0-9](?:[ -]?[0-9]){12,}"),
    "iban": re.compile(r"(?<![A-Za-z0-9])[A-Za-z]{2}[0-9]{2}(?: ?[A-Za-z0-9]{4}){2,7}(?: ?[A-Za-z0-9]{1,3})?"),
}
"""Patterns by name. Each matches rather too much than too little: any 13 or more digits may be the number of a card."""


def parse_pointer(text: str) -> _Pointer:
    """Parse a JSON pointer (RFC 6901) below /input or /output; `*` stands for any name or index. Raises ValueError."""
    if len(text) > MAX_POINTER or not re.fullmatch(POINTER_PATTERN, text):
        raise ValueError("must be a JSON pointer such as /input/customer/email or /output/rows/*/name")
    return tuple(part.replace("~1", "/").replace("~0", "~") for part in text[1:].split("/"))


def compile_pattern(text: str) -> re.Pattern[str]:
    """Compile an own pattern. Raises ValueError if it is invalid, matches the empty text, or could be slow."""
    if not 0 < len(text) <= MAX_PATTERN:
        raise ValueError(f"must be a pattern of 1 to {MAX_PATTERN} characters")
    place, ways, steps = 0, 1, 0
    while place < len(text):
        part = _PART.match(text, place)
        if part is None:
            raise ValueError(
                r"may have characters, classes such as \d and [A-Z], and {n}, {m,n} and ? behind these; "
                r"no groups, |, ., *, + or anchors"
            )
        least = 0 if part["optional"] else int(part["least"] or 1)
        most = 1 if part["optional"] else int(part["most"] or least)
        steps += ways * most
        ways *= max(1, most - least + 1)
        place = part.end()
    if ways > MAX_WAYS:
        raise ValueError(f"could be slow: the numbers of lengths that its parts can have multiply to over {MAX_WAYS}")
    if steps > MAX_STEPS:
        raise ValueError(f"could be slow: at one place of a text it may compare over {MAX_STEPS} characters")
    try:
        pattern = re.compile(text)
    except re.error:
        raise ValueError("is not a valid pattern") from None
    if pattern.fullmatch(""):
        raise ValueError("matches the empty text")
    return pattern


def parse_redaction(entries: Sequence[str | Mapping[str, str]]) -> Redaction:
    """Return what the entries of a list redact: pointers, names of patterns, and {"pattern": …}. Raises ValueError."""
    pointers: list[_Pointer] = []
    patterns: list[re.Pattern[str]] = []
    for entry in entries:
        if not isinstance(entry, str):
            patterns.append(compile_pattern(entry["pattern"]))
        elif entry in NAMED_PATTERNS:
            patterns.append(NAMED_PATTERNS[entry])
        else:
            pointers.append(parse_pointer(entry))
    return Redaction(tuple(pointers), tuple(patterns))


@dataclass(frozen=True, slots=True)
class Redaction:
    """What is redacted: the values at pointers, and what patterns match in texts, numbers and names of members."""

    pointers: tuple[_Pointer, ...] = ()
    patterns: tuple[re.Pattern[str], ...] = ()

    def redact(self, members: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
        """Return a copy of `input` and `output`, redacted."""
        return {
            name: self._redact_below(value, name, list(self.pointers), _MAX_DEPTH) for name, value in members.items()
        }

    def _redact_below(self, value: JsonValue, name: str, pointers: Sequence[_Pointer], depth: int) -> JsonValue:
        """Redact the value of a member or at an index; `pointers` begin at the value that has it."""
        further = [pointer[1:] for pointer in pointers if pointer[0] in (name, "*")]
        return REDACTED if () in further else self._redact(value, further, depth)

    def _redact(self, value: JsonValue, pointers: Sequence[_Pointer], depth: int) -> JsonValue:
        if not pointers and not self.patterns:
            return value
        if isinstance(value, dict | list) and depth == 0:
            return REDACTED
        if isinstance(value, dict):
            return {
                self._redact_text(name): self._redact_below(member, name, pointers, depth - 1)
                for name, member in value.items()
            }
        if isinstance(value, list):
            return [self._redact_below(item, str(index), pointers, depth - 1) for index, item in enumerate(value)]
        return self._redact_text(value) if isinstance(value, str) else self._redact_scalar(value)

    def _redact_scalar(self, value: JsonValue) -> JsonValue:
        text = "" if isinstance(value, bool) or value is None else repr(value)
        return REDACTED if any(pattern.search(text) for pattern in self.patterns) else value

    def _redact_text(self, text: str) -> str:
        for pattern in self.patterns:
            text = pattern.sub(REDACTED, text)
        return text
