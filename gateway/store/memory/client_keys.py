"""Keys of clients of the memory store."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from typing_extensions import override

from gateway.store.client_key import ClientKeyStore, KeyChanges, StoredKey


class MemoryClientKeys(ClientKeyStore):
    """Keys by id. `require_open` raises StoreUnavailable if the store is closed."""

    def __init__(self, require_open: Callable[[], None]) -> None:
        self._require_open = require_open
        self._keys: dict[str, StoredKey] = {}
        self._changed: dict[int, str] = {}  # ids by revision, in ascending order
        self._digests: dict[bytes, str] = {}
        self._revision = 0

    @override
    async def add(self, key: StoredKey, *, most: int) -> bool:
        self._require_open()
        if len(self._keys) >= most:
            return False
        self._put(replace(key, number=self._revision + 1))
        return True

    @override
    async def get(self, key_id: str) -> StoredKey | None:
        self._require_open()
        return self._keys.get(key_id)

    @override
    async def find(self, digest: bytes) -> StoredKey | None:
        self._require_open()
        return self._keys.get(self._digests.get(digest, ""))

    @override
    async def change(self, key: StoredKey) -> bool:
        self._require_open()
        stored = self._keys.get(key.id)
        if stored is None or stored.revision != key.revision:
            return False
        self._remove(stored)
        kept = {name: getattr(stored, name) for name in ("client", "created_at", "last_used_at", "number")}
        self._put(replace(key, **kept))
        return True

    @override
    async def list(self, *, client: str | None = None, before: int | None = None, limit: int) -> Sequence[StoredKey]:
        self._require_open()
        found = (
            key
            for key in self._keys.values()
            if (client is None or key.client == client) and (before is None or key.number < before)
        )
        return sorted(found, key=lambda key: -key.number)[:limit]

    @override
    async def list_ending(self, *, from_at: float, until_at: float, limit: int) -> Sequence[StoredKey]:
        self._require_open()
        ends = [(key.ended_at, key) for key in self._keys.values() if key.ended_at is not None]
        found = [(at, key) for at, key in ends if from_at <= at <= until_at]
        return [key for _, key in sorted(found, key=lambda each: each[0])[:limit]]

    @override
    async def read_changes(self, after: int, *, limit: int) -> KeyChanges:
        self._require_open()
        if after >= self._revision:
            return KeyChanges([], self._revision)
        revisions = [revision for revision in self._changed if revision > after][:limit]
        return KeyChanges([self._keys[self._changed[each]] for each in revisions], self._revision)

    @override
    async def note_uses(self, uses: Sequence[tuple[str, float]]) -> None:
        self._require_open()
        for key_id, at in uses:
            key = self._keys.get(key_id)
            if key is not None and (key.last_used_at is None or key.last_used_at < at):
                self._keys[key_id] = replace(key, last_used_at=at)

    @override
    async def purge(self, before_at: float) -> int:
        self._require_open()
        old = [key for key in self._keys.values() if key.ended_at is not None and key.ended_at < before_at]
        for key in old:
            self._remove(key)
            del self._keys[key.id]
        return len(old)

    def _put(self, key: StoredKey) -> None:
        self._revision += 1
        self._keys[key.id] = replace(key, revision=self._revision)
        self._changed[self._revision] = key.id
        for digest in filter(None, (key.digest, key.previous_digest)):
            self._digests[digest] = key.id

    def _remove(self, key: StoredKey) -> None:
        """Remove a key from all but `_keys`."""
        del self._changed[key.revision]
        for digest in filter(None, (key.digest, key.previous_digest)):
            self._digests.pop(digest, None)
