"""Audit records of the SQLite store.

The ends of the chain have a row of their own, so that newest records that were deleted by hand are noticed. Neither
the sequence number nor the hash is unique in the table: a record that was inserted by hand is to be found, not refused.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any

from typing_extensions import override

from gateway.store.audit import (
    MAX_EXAMINED,
    PURGE_BATCH,
    AuditFilter,
    AuditHead,
    AuditPage,
    AuditRecord,
    AuditState,
    AuditStore,
    last_surplus,
    select_page,
)
from gateway.store.sqlite.bulk_replays import Transaction

_STATE = "SELECT anchor_sequence, anchor_hash, head_sequence, head_hash FROM audit_chain"
_ADD = "INSERT INTO audit_records (sequence, hash, content) VALUES (?, ?, ?)"
_SET_HEAD = """
INSERT INTO audit_chain (id, anchor_sequence, anchor_hash, head_sequence, head_hash) VALUES (1, ?, ?, ?, ?)
ON CONFLICT (id) DO UPDATE SET head_sequence = excluded.head_sequence, head_hash = excluded.head_hash"""
_SET_ANCHOR = "UPDATE audit_chain SET anchor_sequence = ?, anchor_hash = ?"
_ASCENDING = """
SELECT sequence, hash, content FROM audit_records WHERE sequence > ? ORDER BY sequence, number LIMIT ?"""
_DESCENDING = """
SELECT sequence, hash, content FROM audit_records WHERE sequence < ? ORDER BY sequence DESC, number DESC LIMIT ?"""
_PURGE = "DELETE FROM audit_records WHERE sequence <= ?"
_LOWEST, _HIGHEST = -(2**63), 2**63 - 1


class SqliteAudit(AuditStore):
    """Audit records in the table `audit_records`."""

    def __init__(self, write: Transaction, read: Transaction) -> None:
        self._write = write
        self._read = read

    @override
    async def state(self) -> AuditState:
        return await self._read(_state)

    @override
    async def append(self, records: Sequence[AuditRecord], after: AuditHead) -> AuditHead:
        return await self._write(lambda db: _append(db, records, after))

    @override
    async def list(self, audit_filter: AuditFilter) -> AuditPage:
        return await self._read(lambda db: _list(db, audit_filter))

    @override
    async def purge(self, before_time: str, *, most: int) -> int:
        deleted = 0
        while batch := await self._write(lambda db: _purge(db, before_time, most)):
            deleted += batch
        return deleted


def _state(db: sqlite3.Connection) -> AuditState:
    row: Any = db.execute(_STATE).fetchone()
    return AuditState() if row is None else AuditState(AuditHead(*row[:2]), AuditHead(*row[2:]))


def _append(db: sqlite3.Connection, records: Sequence[AuditRecord], after: AuditHead) -> AuditHead:
    state = _state(db)
    if state.head != after:
        return state.head
    db.executemany(_ADD, ((each.sequence, each.hash, each.content) for each in records))
    head = records[-1].head
    db.execute(_SET_HEAD, (state.anchor.sequence, state.anchor.hash, head.sequence, head.hash))
    return head


def _list(db: sqlite3.Connection, audit_filter: AuditFilter) -> AuditPage:
    start = _LOWEST if audit_filter.ascending else _HIGHEST
    cursor = start if audit_filter.cursor is None else audit_filter.cursor
    query = _ASCENDING if audit_filter.ascending else _DESCENDING
    return select_page((AuditRecord(*row) for row in db.execute(query, (cursor, MAX_EXAMINED))), audit_filter)


def _purge(db: sqlite3.Connection, before_time: str, most: int) -> int:
    oldest = (AuditRecord(*row) for row in db.execute(_ASCENDING, (_LOWEST, PURGE_BATCH)))
    last = last_surplus(oldest, before_time, _state(db).head.sequence - most)
    if last is None:
        return 0
    db.execute(_SET_ANCHOR, (last.sequence, last.hash))
    return db.execute(_PURGE, (last.sequence,)).rowcount
