"""A Lua script as Redis caches it: EVALSHA names it by the SHA-1 of its text."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, TypeAlias

RedisArgument: TypeAlias = bytes | str | int | float

RedisReply: TypeAlias = Any
"""bytes, int, None, a list of replies, or an exception (the error reply to one command)."""


@dataclass(frozen=True, slots=True)
class RedisScript:
    """The text of a script, and its SHA-1 in hexadecimal."""

    text: str
    sha: str

    @classmethod
    def from_text(cls, text: str) -> RedisScript:
        """Return the script with this text."""
        return cls(text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())
