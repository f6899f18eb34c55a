"""Bulk replays of the SQLite store."""

from __future__ import annotations

import sqlite3
from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeVar

from typing_extensions import override

from gateway.store.bulk_replay import BulkReplay, BulkReplayStore

T = TypeVar("T")

_ADD = """
INSERT INTO bulk_replays (id, plan, created_at, delete_at, state, progress, owner, leased_until_at, revision)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING"""

_GET = """
SELECT id, plan, created_at, delete_at, state, progress, owner, leased_until_at, revision
FROM bulk_replays WHERE id = ?"""

_LIST_RUNNING = """
SELECT id, x'', created_at, delete_at, state, progress, owner, leased_until_at, revision
FROM bulk_replays WHERE state = 'running' ORDER BY id"""

_CHANGE = """
UPDATE bulk_replays SET delete_at = ?, state = ?, progress = ?, owner = ?, leased_until_at = ?, revision = revision + 1
WHERE id = ? AND revision = ?"""

_PURGE = "DELETE FROM bulk_replays WHERE delete_at < ?"


class Transaction(Protocol):
    """A function that executes another one in a transaction."""

    def __call__(self, action: Callable[[sqlite3.Connection], T], /) -> Awaitable[T]:
        """Return what `action` returns. Raises StoreUnavailable."""


class SqliteBulkReplays(BulkReplayStore):
    """Bulk replays in the table `bulk_replays`."""

    def __init__(self, write: Transaction, read: Transaction) -> None:
        self._write = write
        self._read = read

    @override
    async def add(self, replay: BulkReplay) -> None:
        values = (replay.id, replay.plan, replay.created_at, *_changing(replay), replay.revision)
        await self._write(lambda db: db.execute(_ADD, values).rowcount)

    @override
    async def get(self, replay_id: str) -> BulkReplay | None:
        row: Any = await self._read(lambda db: db.execute(_GET, (replay_id,)).fetchone())
        return None if row is None else BulkReplay(*row)

    @override
    async def list_running(self) -> list[BulkReplay]:
        return [BulkReplay(*row) for row in await self._read(lambda db: db.execute(_LIST_RUNNING).fetchall())]

    @override
    async def change(self, replay: BulkReplay) -> bool:
        values = (*_changing(replay), replay.id, replay.revision)
        return await self._write(lambda db: db.execute(_CHANGE, values).rowcount) == 1

    @override
    async def purge(self, before_at: float) -> int:
        return await self._write(lambda db: db.execute(_PURGE, (before_at,)).rowcount)


def _changing(replay: BulkReplay) -> tuple[object, ...]:
    return replay.delete_at, replay.state, replay.progress, replay.owner, replay.leased_until_at
