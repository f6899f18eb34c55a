"""Patterns over the claims of a token: which values the configuration demands of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from providers.contract import JsonValue

ClaimValue: TypeAlias = str | int | bool
"""What a claim must be. In a text, `*` stands for any characters, also for none; nothing else is special."""

MAX_CLAIMS = 20
MAX_NAME = 200
MAX_VALUE = 500
MAX_WILDCARDS = 5
_CHECKED_ALWAYS = frozenset({"iss", "aud", "azp", "exp", "nbf", "iat"})


@dataclass(frozen=True, slots=True)
class ClaimPattern:
    """A claim by its path of member names, and the value that it must have."""

    path: tuple[str, ...]
    value: ClaimValue

    @classmethod
    def parse(cls, name: str, value: object) -> ClaimPattern:
        """Parse a name, or a JSON pointer to a member within a claim, and a value. Raises ValueError."""
        path = _parse_path(name)
        if path[0] in _CHECKED_ALWAYS:
            raise ValueError("is checked for every token: match another claim")
        if not isinstance(value, str | int):
            raise ValueError("must be a text, a whole number, true or false")  # noqa: TRY004 - pydantic needs ValueError
        if isinstance(value, str):
            _check_text(value)
        return cls(path, value)

    def matches(self, claims: Mapping[str, JsonValue]) -> bool:
        """Return whether the claim, or an element of a claim that is a list, has the value."""
        found: JsonValue = dict(claims)
        for name in self.path:
            if not isinstance(found, dict) or name not in found:
                return False
            found = found[name]
        return any(map(self._is_value, found)) if isinstance(found, list) else self._is_value(found)

    def covers(self, other: ClaimPattern) -> bool:
        """Return True if each token that matches `other` matches this pattern too."""
        if self.path != other.path:
            return False
        if isinstance(self.value, str) and isinstance(other.value, str):
            return _matches_text(self.value, other.value)  # a `*` of the other stands where this one has a `*`
        return type(self.value) is type(other.value) and self.value == other.value

    def _is_value(self, found: JsonValue) -> bool:
        if isinstance(self.value, bool) or isinstance(found, bool):
            return found is self.value
        if isinstance(self.value, int):  # issuers write ids as texts, YAML reads them as numbers
            return found == str(self.value) if isinstance(found, str) else type(found) is int and found == self.value
        return isinstance(found, str) and _matches_text(self.value, found)


def match_all(patterns: Sequence[ClaimPattern], claims: Mapping[str, JsonValue]) -> bool:
    """Return True if the claims have every value."""
    return all(pattern.matches(claims) for pattern in patterns)


def covers_all(patterns: Sequence[ClaimPattern], others: Sequence[ClaimPattern]) -> bool:
    """Return True if each token that matches all of `others` matches all of `patterns` too."""
    return all(any(pattern.covers(other) for other in others) for pattern in patterns)


def _parse_path(name: str) -> tuple[str, ...]:
    if not name or len(name) > MAX_NAME or not name.isprintable():
        raise ValueError(f"a claim's name has 1 to {MAX_NAME} printable characters")
    if not name.startswith("/"):
        return (name,)
    parts = name[1:].split("/")
    if any("~" in part.replace("~0", "").replace("~1", "") for part in parts):
        raise ValueError("must be a claim's name, or a JSON pointer such as /kubernetes.io/namespace")
    return tuple(part.replace("~1", "/").replace("~0", "~") for part in parts)


def _check_text(text: str) -> None:
    if not text or len(text) > MAX_VALUE or not text.isprintable():
        raise ValueError(f"must have 1 to {MAX_VALUE} printable characters")
    if text.startswith("*"):
        raise ValueError("must not begin with *: the beginning of a claim says whose it is")
    if text.count("*") > MAX_WILDCARDS:
        raise ValueError(f"must have at most {MAX_WILDCARDS} *")


def _matches_text(pattern: str, text: str) -> bool:
    """Match in time proportional to the text; a regular expression would take a power of it."""
    first, *rest = pattern.split("*")
    if not rest:
        return text == pattern
    last = rest.pop()
    start, end = len(first), len(text) - len(last)
    if start > end or not text.startswith(first) or not text.endswith(last):
        return False
    for piece in rest:
        found = text.find(piece, start, end)
        if found < 0:
            return False
        start = found + len(piece)
    return True
