"""Keys of clients of the supervisor's store, which is opened at the first request."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from typing_extensions import override

from gateway.store.client_key import ClientKeyStore, KeyChanges, StoredKey


@dataclass(frozen=True, slots=True)
class LazyClientKeys(ClientKeyStore):
    """The keys of `inner`; `ensure_open` opens its store, and may raise StoreUnavailable."""

    inner: ClientKeyStore
    ensure_open: Callable[[], Awaitable[None]]

    @override
    async def add(self, key: StoredKey, *, most: int) -> bool:
        await self.ensure_open()
        return await self.inner.add(key, most=most)

    @override
    async def get(self, key_id: str) -> StoredKey | None:
        await self.ensure_open()
        return await self.inner.get(key_id)

    @override
    async def find(self, digest: bytes) -> StoredKey | None:
        await self.ensure_open()
        return await self.inner.find(digest)

    @override
    async def change(self, key: StoredKey) -> bool:
        await self.ensure_open()
        return await self.inner.change(key)

    @override
    async def list(self, *, client: str | None = None, before: int | None = None, limit: int) -> Sequence[StoredKey]:
        await self.ensure_open()
        return await self.inner.list(client=client, before=before, limit=limit)

    @override
    async def list_ending(self, *, from_at: float, until_at: float, limit: int) -> Sequence[StoredKey]:
        await self.ensure_open()
        return await self.inner.list_ending(from_at=from_at, until_at=until_at, limit=limit)

    @override
    async def read_changes(self, after: int, *, limit: int) -> KeyChanges:
        await self.ensure_open()
        return await self.inner.read_changes(after, limit=limit)

    @override
    async def note_uses(self, uses: Sequence[tuple[str, float]]) -> None:
        await self.ensure_open()
        await self.inner.note_uses(uses)

    @override
    async def purge(self, before_at: float) -> int:
        await self.ensure_open()
        return await self.inner.purge(before_at)
