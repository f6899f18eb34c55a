"""Audit records of the Redis store.

A member of `audit_records` is the hash of a record and its content, and its score the sequence number: of a record that
was inserted by hand both are to be found. The ends of the chain are in a hash of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from typing_extensions import override

from gateway.store.audit import (
    GENESIS,
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
from gateway.store.redis import scripts
from gateway.store.redis.bulk_replays import Execute

_HASH = 64  # characters
_SCAN = 500  # records read by one script


class RedisAudit(AuditStore):
    """Audit records in a sorted set. `write` passes the generation to a script as its first argument."""

    def __init__(self, write: Execute, read: Execute) -> None:
        self._write = write
        self._read = read

    @override
    async def state(self) -> AuditState:
        words = await self._read(scripts.GET_AUDIT_STATE)
        return AuditState(_head(words[:2]), _head(words[2:]))

    @override
    async def append(self, records: Sequence[AuditRecord], after: AuditHead) -> AuditHead:
        head = records[-1].head
        places = after.sequence, after.hash, head.sequence, head.hash
        members = (word for each in records for word in (each.sequence, each.hash.encode() + each.content))
        return _head(await self._write(scripts.APPEND_AUDIT, *places, GENESIS.hash, *members))

    @override
    async def list(self, audit_filter: AuditFilter) -> AuditPage:
        """Read what it needs in several steps, so that other scripts run in between."""
        found: list[AuditRecord] = []
        cursor = "" if audit_filter.cursor is None else str(audit_filter.cursor)
        offset, most = 0, _SCAN
        if not (audit_filter.equal or audit_filter.from_time or audit_filter.until_time):
            most = min(_SCAN, audit_filter.limit)
        while offset < MAX_EXAMINED:
            order = "1" if audit_filter.ascending else "0"
            batch = _records(await self._read(scripts.LIST_AUDIT, order, cursor, offset, most))
            found += batch
            offset += most
            page = select_page(found, audit_filter)
            if len(page.records) == audit_filter.limit or len(batch) < most:
                return page
        return select_page(found, audit_filter)

    @override
    async def purge(self, before_time: str, *, most: int) -> int:
        through = (await self.state()).head.sequence - most
        deleted, batch = 0, 1  # mostly not even the oldest one is to be deleted
        while True:
            oldest = _records(await self._read(scripts.LIST_AUDIT, "1", "", 0, batch))
            last = last_surplus(oldest, before_time, through)
            if last is None:
                return deleted
            deleted += int(await self._write(scripts.PURGE_AUDIT, last.sequence, last.hash))
            batch = PURGE_BATCH


def _head(words: Any) -> AuditHead:
    sequence, text = words
    return GENESIS if not sequence else AuditHead(int(sequence), text.decode())


def _records(words: Any) -> list[AuditRecord]:
    """Return records of members, each followed by its score."""
    pairs = zip(words[::2], words[1::2], strict=True)
    return [AuditRecord(int(float(score)), member[:_HASH].decode("latin-1"), member[_HASH:]) for member, score in pairs]
