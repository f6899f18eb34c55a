"""Audit records of the supervisor's store, which is opened when they are first used."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from typing_extensions import override

from gateway.store.audit import AuditFilter, AuditHead, AuditPage, AuditRecord, AuditState, AuditStore


@dataclass(frozen=True, slots=True)
class LazyAudit(AuditStore):
    """The audit records of `inner`; `ensure_open` opens its store, and may raise StoreUnavailable."""

    inner: AuditStore
    ensure_open: Callable[[], Awaitable[None]]

    @override
    async def state(self) -> AuditState:
        await self.ensure_open()
        return await self.inner.state()

    @override
    async def append(self, records: Sequence[AuditRecord], after: AuditHead) -> AuditHead:
        await self.ensure_open()
        return await self.inner.append(records, after)

    @override
    async def list(self, audit_filter: AuditFilter) -> AuditPage:
        await self.ensure_open()
        return await self.inner.list(audit_filter)

    @override
    async def purge(self, before_time: str, *, most: int) -> int:
        await self.ensure_open()
        return await self.inner.purge(before_time, most=most)
