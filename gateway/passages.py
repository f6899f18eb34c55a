"""Which of a provider's paths may be passed through: how they are listed, and how a path is read before it is compared.

What is compared is what is sent, so nothing hides behind an escape; and no path that starts a run is ever let through:
such a run would be paid for, and counted by nobody.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import unquote

PATTERN = r"^(GET|POST|PUT|PATCH|DELETE) /[A-Za-z0-9._~!$&'()+,;=:@%/-]+\*?$"
"""A method and a path; a `*` at the end stands for whatever follows."""

_LISTED = re.compile(PATTERN)
_PATH = re.compile(r"/(?:[A-Za-z0-9._~!$&'()*+,;=:@/-]|%[0-9A-Fa-f]{2})+")
_ESCAPE = re.compile(r"%[0-9A-Fa-f]{2}")
_UNRESERVED = re.compile(r"[A-Za-z0-9._~-]")
_STRANGE = re.compile(r"[\x00-\x1f\x7f\\\ufffd]")  # the last: what was no UTF-8
_STARTS = re.compile(r"/workflows/.+/run/*|/(api/)?v1/(workflows|instructions)(/.*)?")
_PREFIXES = ("/workflows/", "/v1/workflows/", "/v1/instructions/", "/api/v1/workflows/", "/api/v1/instructions/")


@dataclass(frozen=True, slots=True)
class Passage:
    """One entry of the list: a method, and a path or, with `open_end`, the beginning of one."""

    method: str
    path: str
    open_end: bool

    @classmethod
    def read(cls, text: str) -> Passage:
        """Read an entry; ValueError where it is none, or would let runs be started."""
        if not _LISTED.fullmatch(text):
            raise ValueError("must be a method and a path such as POST /log-request or GET /prompt-templates/*")
        method, _, path = text.partition(" ")
        beginning = path.removesuffix("*")
        if normal(beginning) != beginning:
            raise ValueError("must be a path without '.', '..', doubled slashes, or escapes of what needs none")
        passage = cls(method, beginning, path.endswith("*"))
        if passage.starts_runs:
            raise ValueError("would start runs that nobody counts: they have routes of their own")
        return passage

    @property
    def starts_runs(self) -> bool:
        """Whether it has a path that starts a run. No GET does."""
        if self.method == "GET":
            return False
        covers = any(start.startswith(self.path.lower()) for start in _PREFIXES) if self.open_end else False
        return covers or starts_run(self.path) or any(self.path.lower().startswith(start) for start in _PREFIXES)

    def has(self, method: str, path: str) -> bool:
        """Whether a request is one of those that it lets through; `path` as `normal` makes it."""
        if method != self.method:
            return False
        return path.startswith(self.path) and path != self.path if self.open_end else path == self.path


def normal(path: str) -> str | None:
    """The path as it is compared and sent, or None where it can not be trusted to mean the same to everybody.

    Slashes at its beginning are one, as a base URL may end in one; escapes are in the form of RFC 3986, 6.2.2. Slashes
    that are escaped stay so. Dot segments (some servers take `..;x` for one), control characters, backslashes and what
    is no UTF-8 are refused, however they are written.
    """
    path = "/" + path.lstrip("/")
    if not _PATH.fullmatch(path):
        return None
    for whole in _readings(path):
        segments = {segment.partition(";")[0] for segment in whole.split("/")}
        if _STRANGE.search(whole) or {".", ".."} & segments:
            return None
    found = _ESCAPE.sub(_shortest, path)
    return None if "//" in found else found


def starts_run(path: str) -> bool:
    """Whether a path starts a run, at either provider, in whatever spelling some server may understand."""
    readings = (re.sub(r"/+", "/", re.sub(r";[^/]*", "", whole)).lower() for whole in _readings(path))
    return any(_STARTS.fullmatch(whole) for whole in readings)


def _readings(path: str) -> tuple[str, str]:
    """What the path says to one who decodes it, and to one who does so twice."""
    once = unquote(path)
    return once, unquote(once)


def _shortest(escape: re.Match[str]) -> str:
    character = chr(int(escape[0][1:], 16))
    return character if _UNRESERVED.fullmatch(character) else escape[0].upper()
