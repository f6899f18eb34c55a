"""Keys of clients of the Redis store."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager

from typing_extensions import override

from gateway.redis.pipeline import ScriptConnection
from gateway.store.client_key import ClientKeyStore, KeyChanges, StoredKey
from gateway.store.redis import scripts
from gateway.store.redis.bulk_replays import Execute
from gateway.store.redis.script_executor import ScriptBatcher

_TIMES = ("expires_at", "previous_until_at", "rotated_at", "revoked_at", "last_used_at")
_CHANGING = ("digest", "terms", "expires_at", "previous_digest", "previous_until_at", "rotated_at", "revoked_at")
_NAMES = ("id", "client", "created_at", "last_used_at", "number", "revision", *_CHANGING)
_USES_PER_SCRIPT = 200


class RedisClientKeys(ClientKeyStore):
    """Keys in hashes. `write` passes the generation to a script as its first argument; `read` does not."""

    def __init__(self, write: Execute, read: Execute) -> None:
        self._write = write
        self._read = read

    @override
    async def add(self, key: StoredKey, *, most: int) -> bool:
        names = ("client", "created_at", "last_used_at", *_CHANGING)
        place = key.id, key.client, most, _ended(key), key.digest, key.previous_digest or b""
        return bool(await self._write(scripts.ADD_CLIENT_KEY, *place, *_words(key, names)))

    @override
    async def get(self, key_id: str) -> StoredKey | None:
        return _first(await self._read(scripts.GET_CLIENT_KEY, key_id, *_NAMES))

    @override
    async def find(self, digest: bytes) -> StoredKey | None:
        return _first(await self._read(scripts.FIND_CLIENT_KEY, digest, *_NAMES))

    @override
    async def change(self, key: StoredKey) -> bool:
        place = key.id, key.revision, _ended(key), key.digest, key.previous_digest or b""
        return bool(await self._write(scripts.CHANGE_CLIENT_KEY, *place, *_words(key, _CHANGING)))

    @override
    async def list(self, *, client: str | None = None, before: int | None = None, limit: int) -> Sequence[StoredKey]:
        most = "+inf" if before is None else f"({before}"
        return _decode_all(await self._read(scripts.LIST_CLIENT_KEYS, client or "", most, limit, *_NAMES))

    @override
    async def list_ending(self, *, from_at: float, until_at: float, limit: int) -> Sequence[StoredKey]:
        times = repr(from_at), repr(until_at)
        return _decode_all(await self._read(scripts.LIST_ENDING_CLIENT_KEYS, *times, limit, *_NAMES))

    @override
    async def read_changes(self, after: int, *, limit: int) -> KeyChanges:
        newest, rows = await self._write(scripts.READ_CLIENT_KEY_CHANGES, after, limit, *_NAMES)
        return KeyChanges(_decode_all(rows), int(newest))

    @override
    async def note_uses(self, uses: Sequence[tuple[str, float]]) -> None:
        for first in range(0, len(uses), _USES_PER_SCRIPT):
            batch = uses[first : first + _USES_PER_SCRIPT]
            await self._read(
                scripts.NOTE_CLIENT_KEY_USES, *(word for key_id, at in batch for word in (key_id, repr(at)))
            )

    @override
    async def purge(self, before_at: float) -> int:
        deleted = 0
        while batch := int(await self._read(scripts.PURGE_CLIENT_KEYS, repr(before_at))):
            deleted += batch
        return deleted


@asynccontextmanager
async def reading_client_keys(connection: ScriptConnection, prefix: str) -> AsyncIterator[ClientKeyStore]:
    """Give the keys of a store that is not opened; they can be listed and found only."""
    batcher = ScriptBatcher(connection, prefix)
    try:
        yield RedisClientKeys(batcher.execute, batcher.execute)
    finally:
        await batcher.close()


def _ended(key: StoredKey) -> str:
    return "" if key.ended_at is None else repr(key.ended_at)


def _words(key: StoredKey, names: Sequence[str]) -> list[str | bytes]:
    """Return names, each followed by its value; that of None is empty."""
    words: list[str | bytes] = []
    for name in names:
        value = getattr(key, name)
        words += (name, b"" if value is None else value if isinstance(value, (str, bytes)) else repr(value))
    return words


def _first(rows: list[bytes]) -> StoredKey | None:
    return _decode_all(rows)[0] if rows else None


def _decode_all(rows: list[bytes]) -> list[StoredKey]:
    return [_decode(dict(zip(_NAMES, _unpack(row), strict=True))) for row in rows]


def _unpack(row: bytes) -> Iterator[bytes]:
    """Yield the values of a row: their lengths, a semicolon, and the values."""
    lengths, _, values = row.partition(b";")
    start = 0
    for length in map(int, lengths.split(b",")):
        yield values[start : start + length]
        start += length


def _decode(fields: dict[str, bytes]) -> StoredKey:
    times = {name: float(fields[name]) if fields[name] else None for name in _TIMES}
    return StoredKey(
        id=fields["id"].decode(),
        client=fields["client"].decode(),
        digest=fields["digest"],
        terms=fields["terms"],
        created_at=float(fields["created_at"]),
        previous_digest=fields["previous_digest"] or None,
        number=int(fields["number"]),
        revision=int(fields["revision"]),
        **times,
    )
