"""Keys of the operations port, with the role and the name of each."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from gateway.auth.keys import KeyRefusal, KeyRing, PresentedKey


class Role(enum.Enum):
    """What a key permits: a viewer reads everything, an operator may change something too."""

    VIEWER = "viewer"
    OPERATOR = "operator"


@dataclass(frozen=True, slots=True)
class OpsKey:
    """A key by its hash. `name`: of the person or program that has it, None if it has none.

    `team`: what this team owns is all that the key may read.
    """

    hash: str
    role: Role = Role.OPERATOR
    name: str | None = None
    expires: datetime | None = None
    team: str | None = None

    def is_expired(self, now: datetime) -> bool:
        """Return True from the time of its expiry on."""
        return self.expires is not None and now >= self.expires


@dataclass(frozen=True, slots=True)
class OpsCaller:
    """What is known of the sender of a request. `by_session`: a cookie has authenticated it, not a key.

    `team`: all that it may read belongs to this team; None: it may read everything.
    """

    role: Role
    name: str | None = None
    by_session: bool = False
    team: str | None = None


class OpsKeys:
    """All keys of the port; without any it needs none."""

    __slots__ = ("_keys", "_ring")

    def __init__(self, keys: Sequence[OpsKey] = ()) -> None:
        """Raises ValueError, without the hash, for an invalid or repeated entry."""
        self._keys = tuple(keys)
        self._ring = KeyRing({str(index): [(key.hash, key.expires)] for index, key in enumerate(keys)})

    def __len__(self) -> int:
        return len(self._keys)

    def __iter__(self) -> Iterator[OpsKey]:
        return iter(self._keys)

    def find(self, presented: PresentedKey, now: Callable[[], datetime]) -> OpsKey | KeyRefusal:
        """Return the key, or the reason for its refusal."""
        found = self._ring.find(presented, now)
        return found if isinstance(found, KeyRefusal) else self._keys[int(found)]
