"""Allow-list rules of the pass-through, and normalization of paths before they are compared.

The normalized path is also the path that is sent, so an escape cannot bypass a rule. Paths that start runs are declared
by each adapter (`providers.declarations.StartPattern`) and never permitted: such a run would cost money without being
subject to limits and metrics.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import unquote

from providers.declarations import StartPattern

RULE_PATTERN = r"^(GET|POST|PUT|PATCH|DELETE) /[A-Za-z0-9._~!$&'()+,;=:@%/-]+\*?$"
"""A method and a path; `*` at the end matches any continuation."""

_RULE = re.compile(RULE_PATTERN)
_PATH = re.compile(r"/(?:[A-Za-z0-9._~!$&'()*+,;=:@/-]|%[0-9A-Fa-f]{2})+")
_ESCAPE = re.compile(r"%[0-9A-Fa-f]{2}")
_UNRESERVED = re.compile(r"[A-Za-z0-9._~-]")
_FORBIDDEN_CHARACTERS = re.compile(r"[\x00-\x1f\x7f\\\ufffd]")  # U+FFFD: invalid UTF-8


@dataclass(frozen=True, slots=True)
class PassthroughRule:
    """One rule: a method and a path, or a prefix of paths."""

    method: str
    path: str
    is_prefix: bool

    @classmethod
    def parse(cls, text: str) -> PassthroughRule:
        """Parse a rule. Raises ValueError if it is malformed."""
        if not _RULE.fullmatch(text):
            raise ValueError("must be a method and a path such as POST /log-request or GET /prompt-templates/*")
        method, _, path = text.partition(" ")
        prefix = path.removesuffix("*")
        if normalize_path(prefix) != prefix:
            raise ValueError("must be a path without '.', '..', doubled slashes, or escapes of what needs none")
        return cls(method, prefix, path.endswith("*"))

    def can_start_run(self, starts: Iterable[StartPattern]) -> bool:
        """Return True if a request that the rule allows can start a run, by the start patterns of its provider."""
        if self.is_prefix:
            return any(start.matches_prefix(self.method, self.path) for start in starts)
        return any(start.matches(self.method, self.path) for start in starts)

    def matches(self, method: str, path: str) -> bool:
        """True if the rule permits the request. `path`: as returned by `normalize_path`."""
        if method != self.method:
            return False
        return path.startswith(self.path) and path != self.path if self.is_prefix else path == self.path


def normalize_path(path: str) -> str | None:
    """The path as it is compared and sent. None if servers may interpret it differently.

    Leading slashes are reduced to one, as a base URL may end in a slash; escapes are normalized (RFC 3986, 6.2.2), and
    escaped slashes stay escaped. Dot segments (`..;x` included), control characters, backslashes and invalid UTF-8 are
    refused, in escaped form too.
    """
    path = "/" + path.lstrip("/")
    if not _PATH.fullmatch(path):
        return None
    for decoded in _decodings(path):
        segments = {segment.partition(";")[0] for segment in decoded.split("/")}
        if _FORBIDDEN_CHARACTERS.search(decoded) or {".", ".."} & segments:
            return None
    normalized = _ESCAPE.sub(_normalize_escape, path)
    return None if "//" in normalized else normalized


def _decodings(path: str) -> tuple[str, str]:
    """The path decoded once and decoded twice."""
    once = unquote(path)
    return once, unquote(once)


def _normalize_escape(escape: re.Match[str]) -> str:
    character = chr(int(escape[0][1:], 16))
    return character if _UNRESERVED.fullmatch(character) else escape[0].upper()
