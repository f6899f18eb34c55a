"""What an audit record says: by which caller, from where, what was done to what, and how it ended."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from gateway.key_format import is_well_formed

FORMAT = 1
"""Version of the members of a record."""
MAX_TARGET = 200
MAX_DETAILS = 10
MAX_DETAIL = 200

Result: TypeAlias = Literal["begun", "succeeded", "refused", "failed"]
RESULTS: tuple[Result, ...] = ("begun", "succeeded", "refused", "failed")
"""begun: about to be done. refused: nothing was changed. failed: ended with an error, something may have changed."""

Means: TypeAlias = Literal["key", "session", "open", "unknown", "system"]
MEANS: tuple[Means, ...] = ("key", "session", "open", "unknown", "system")
"""How the caller was known: by a key, by a session of the console, not at all because no key is configured, not at all
because none was accepted; or it was the gateway itself."""

NO_NAME = "key without a name"
"""Actor of a key that has no name."""
INVALID = "(invalid)"
REMOVED = "(removed)"

_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufeff]")
_KEY = re.compile(r"rw_[0-9A-Za-z]{20,}")


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """A record without its place in the chain. `act`: the same in the record of the beginning and that of the end.

    `code`: the error code of what was refused or failed. `details`: short texts about what was done.
    """

    act: str
    action: str
    result: Result
    actor: str = "system"
    via: Means = "system"
    role: str = ""
    target: str = ""
    code: str = ""
    address: str = ""
    request_id: str = ""
    details: Mapping[str, str] = field(default_factory=dict)

    def members(self, time: str, replica: str) -> dict[str, object]:
        """Return the members of the record. `time`: RFC 3339."""
        return {
            "format": FORMAT,
            "time": time,
            "act": self.act,
            "action": self.action,
            "actor": clean(self.actor),
            "via": self.via,
            "role": self.role,
            "target": clean(self.target),
            "result": self.result,
            "code": self.code,
            "address": clean(self.address),
            "request_id": clean(self.request_id),
            "replica": replica,
            "details": {
                name: clean(value, MAX_DETAIL) for name, value in list(self.details.items())[:MAX_DETAILS] if value
            },
        }


def clean(text: str, most: int = MAX_TARGET) -> str:
    """Return a text as a record may have it: without control characters, not too long, and not a gateway key."""
    if is_well_formed(text) or _KEY.search(text):
        return REMOVED
    return INVALID if len(text) > most or _UNPRINTABLE.search(text) else text
