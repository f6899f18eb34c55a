"""Keys of clients of the SQLite store."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from typing_extensions import override

from gateway.store.client_key import ClientKeyStore, KeyChanges, StoredKey
from gateway.store.sqlite.bulk_replays import Transaction

_COLUMNS = """id, client, digest, terms, created_at, expires_at, previous_digest, previous_until_at, rotated_at,
revoked_at, last_used_at, number, revision"""

_NEXT_REVISION = "UPDATE client_key_revision SET value = value + 1 RETURNING value"

_ADD = f"INSERT INTO client_keys ({_COLUMNS}, ended_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"  # noqa: S608

_GET = f"SELECT {_COLUMNS} FROM client_keys WHERE id = ?"  # noqa: S608

_FIND = f"SELECT {_COLUMNS} FROM client_keys WHERE digest = ? OR previous_digest = ?"  # noqa: S608

_CHANGE = """
UPDATE client_keys SET digest = ?, terms = ?, expires_at = ?, previous_digest = ?, previous_until_at = ?,
rotated_at = ?, revoked_at = ?, ended_at = ?, revision = ? WHERE id = ?"""

_LIST = f"SELECT {_COLUMNS} FROM client_keys WHERE number < ? ORDER BY number DESC LIMIT ?"  # noqa: S608

_LIST_OF_CLIENT = f"""
SELECT {_COLUMNS} FROM client_keys WHERE client = ? AND number < ? ORDER BY number DESC LIMIT ?"""  # noqa: S608

_CHANGES = f"SELECT {_COLUMNS} FROM client_keys WHERE revision > ? ORDER BY revision LIMIT ?"  # noqa: S608

_ENDING = f"""
SELECT {_COLUMNS} FROM client_keys WHERE ended_at BETWEEN ? AND ? ORDER BY ended_at LIMIT ?"""  # noqa: S608

_NOTE_USE = "UPDATE client_keys SET last_used_at = ?1 WHERE id = ?2 AND (last_used_at IS NULL OR last_used_at < ?1)"

_PURGE = "DELETE FROM client_keys WHERE ended_at < ?"

_MAX_NUMBER = 2**63 - 1
_USES_PER_TRANSACTION = 500


class SqliteClientKeys(ClientKeyStore):
    """Keys in the table `client_keys`."""

    def __init__(self, write: Transaction, read: Transaction) -> None:
        self._write = write
        self._read = read

    @override
    async def add(self, key: StoredKey, *, most: int) -> bool:
        def insert(db: sqlite3.Connection) -> bool:
            if db.execute("SELECT count(*) FROM client_keys").fetchone()[0] >= most:
                return False
            revision = _next_revision(db)
            times = key.expires_at, key.previous_digest, key.previous_until_at, key.rotated_at, key.revoked_at
            values = key.id, key.client, key.digest, key.terms, key.created_at, *times, key.last_used_at
            db.execute(_ADD, (*values, revision, revision, key.ended_at))
            return True

        return await self._write(insert)

    @override
    async def get(self, key_id: str) -> StoredKey | None:
        return _first(await self._read(lambda db: db.execute(_GET, (key_id,)).fetchall()))

    @override
    async def find(self, digest: bytes) -> StoredKey | None:
        return _first(await self._read(lambda db: db.execute(_FIND, (digest, digest)).fetchall()))

    @override
    async def change(self, key: StoredKey) -> bool:
        def update(db: sqlite3.Connection) -> bool:
            stored = db.execute("SELECT revision FROM client_keys WHERE id = ?", (key.id,)).fetchone()
            if stored is None or stored[0] != key.revision:
                return False
            times = key.expires_at, key.previous_digest, key.previous_until_at, key.rotated_at, key.revoked_at
            db.execute(_CHANGE, (key.digest, key.terms, *times, key.ended_at, _next_revision(db), key.id))
            return True

        return await self._write(update)

    @override
    async def list(self, *, client: str | None = None, before: int | None = None, limit: int) -> Sequence[StoredKey]:
        place = _MAX_NUMBER if before is None else before, limit
        query, values = (_LIST, place) if client is None else (_LIST_OF_CLIENT, (client, *place))
        return [StoredKey(*row) for row in await self._read(lambda db: db.execute(query, values).fetchall())]

    @override
    async def list_ending(self, *, from_at: float, until_at: float, limit: int) -> Sequence[StoredKey]:
        values = from_at, until_at, limit
        return [StoredKey(*row) for row in await self._read(lambda db: db.execute(_ENDING, values).fetchall())]

    @override
    async def read_changes(self, after: int, *, limit: int) -> KeyChanges:
        def read(db: sqlite3.Connection) -> KeyChanges:
            newest: int = db.execute("SELECT value FROM client_key_revision").fetchone()[0]
            keys = [] if newest <= after else [StoredKey(*row) for row in db.execute(_CHANGES, (after, limit))]
            return KeyChanges(keys, newest)

        return await self._read(read)

    @override
    async def note_uses(self, uses: Sequence[tuple[str, float]]) -> None:
        for first in range(0, len(uses), _USES_PER_TRANSACTION):
            rows = [(at, key_id) for key_id, at in uses[first : first + _USES_PER_TRANSACTION]]
            await self._write(lambda db, rows=rows: db.executemany(_NOTE_USE, rows).rowcount)  # type: ignore[misc]

    @override
    async def purge(self, before_at: float) -> int:
        return await self._write(lambda db: db.execute(_PURGE, (before_at,)).rowcount)


def _next_revision(db: sqlite3.Connection) -> int:
    return int(db.execute(_NEXT_REVISION).fetchone()[0])


def _first(rows: Sequence[tuple[object, ...]]) -> StoredKey | None:
    return StoredKey(*rows[0]) if rows else None  # type: ignore[arg-type]
