"""Audit records of the memory store."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice

from typing_extensions import override

from gateway.store.audit import (
    MAX_EXAMINED,
    AuditFilter,
    AuditHead,
    AuditPage,
    AuditRecord,
    AuditState,
    AuditStore,
    last_surplus,
    select_page,
)


class MemoryAudit(AuditStore):
    """Audit records in a list. `require_open` raises StoreUnavailable if the store is closed."""

    def __init__(self, require_open: Callable[[], None]) -> None:
        self._require_open = require_open
        self._records: list[AuditRecord] = []
        self._state = AuditState()

    @override
    async def state(self) -> AuditState:
        self._require_open()
        return self._state

    @override
    async def append(self, records: Sequence[AuditRecord], after: AuditHead) -> AuditHead:
        self._require_open()
        if self._state.head == after:
            self._records.extend(records)
            self._state = AuditState(self._state.anchor, records[-1].head)
        return self._state.head

    @override
    async def list(self, audit_filter: AuditFilter) -> AuditPage:
        self._require_open()
        cursor = audit_filter.cursor
        if audit_filter.ascending:
            candidates = (each for each in self._records if cursor is None or each.sequence > cursor)
        else:
            candidates = (each for each in reversed(self._records) if cursor is None or each.sequence < cursor)
        return select_page(islice(candidates, MAX_EXAMINED), audit_filter)

    @override
    async def purge(self, before_time: str, *, most: int) -> int:
        self._require_open()
        last = last_surplus(self._records, before_time, self._state.head.sequence - most)
        if last is None:
            return 0
        count = self._records.index(last) + 1
        del self._records[:count]
        self._state = AuditState(last.head, self._state.head)
        return count
