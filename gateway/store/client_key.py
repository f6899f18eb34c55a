"""Keys of clients that are created while the gateway runs, and the part of a store that keeps them.

Every change of a key gets the next revision of the store, so that a process reads only what has changed since it read
last. A change names the revision that it was made of and is refused once there is a later one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol


@dataclass(frozen=True, slots=True)
class StoredKey:
    """A key of a client. The key itself is not stored: `digest` is its SHA-256.

    `terms`: a JSON object that the store does not read. `previous_digest`: of the text before the last rotation, which
    is valid until `previous_until_at`. `last_used_at`: to the minute. `number`: the revision of its creation, which
    orders keys; `revision`: that of its last change. Both are set by the store.
    """

    id: str
    client: str
    digest: bytes
    terms: bytes
    created_at: float
    expires_at: float | None = None
    previous_digest: bytes | None = None
    previous_until_at: float | None = None
    rotated_at: float | None = None
    revoked_at: float | None = None
    last_used_at: float | None = None
    number: int = 0
    revision: int = 0

    @property
    def ended_at(self) -> float | None:
        """When the key is or was no longer valid: the time of its revocation, or of its expiry; None: never."""
        return min((each for each in (self.revoked_at, self.expires_at) if each is not None), default=None)


class KeyChanges(NamedTuple):
    """Keys in the order of their revisions, and the newest revision of the store."""

    keys: list[StoredKey]
    newest: int


class ClientKeyStore(Protocol):
    """The keys of a store. Every method may raise `StoreUnavailable`."""

    async def add(self, key: StoredKey, *, most: int) -> bool:
        """Store a new key. Returns False, and stores nothing, if there are `most` keys, ended ones included."""

    async def get(self, key_id: str) -> StoredKey | None:
        """Return a key, or None."""

    async def find(self, digest: bytes) -> StoredKey | None:
        """Return the key with this digest or previous digest, in any state; None if there is none."""

    async def change(self, key: StoredKey) -> bool:
        """Write all but `id`, `client`, `created_at`, `last_used_at` and `number`, with a new revision.

        Returns False, and writes nothing, if the stored revision is not that of `key`, or there is none.
        """

    async def list(self, *, client: str | None = None, before: int | None = None, limit: int) -> Sequence[StoredKey]:
        """List keys of a client, or of all, by descending `number`, starting below `before`."""

    async def list_ending(self, *, from_at: float, until_at: float, limit: int) -> Sequence[StoredKey]:
        """List keys whose `ended_at` is in this time, both ends included, by `ended_at`."""

    async def read_changes(self, after: int, *, limit: int) -> KeyChanges:
        """Return keys with a revision above `after`, `limit` at most.

        Raises StoreReplaced if the data were deleted: there would be no keys without any of them having been revoked.
        """

    async def note_uses(self, uses: Sequence[tuple[str, float]]) -> None:
        """Set `last_used_at` of keys by their ids, unless it is later already. A crash may lose it."""

    async def purge(self, before_at: float) -> int:
        """Delete keys that ended before this time; returns their number."""


class KeepsClientKeys(Protocol):
    """A store that has keys of clients."""

    client_keys: ClientKeyStore
