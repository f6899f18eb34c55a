"""Usage in the supervisor's store, which is opened at the first request."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from typing_extensions import override

from gateway.store.usage import UsageBatch, UsageKind, UsageRow, UsageStore


@dataclass(frozen=True, slots=True)
class LazyUsage(UsageStore):
    """The usage of `inner`; `ensure_open` opens its store, and may raise StoreUnavailable."""

    inner: UsageStore
    ensure_open: Callable[[], Awaitable[None]]

    @override
    async def add(self, batch: UsageBatch, *, now_at: float) -> None:
        await self.ensure_open()
        await self.inner.add(batch, now_at=now_at)

    @override
    async def read(self, kind: UsageKind, first_day: int, last_day: int) -> list[UsageRow]:
        await self.ensure_open()
        return await self.inner.read(kind, first_day, last_day)

    @override
    async def purge(self, before_day: int) -> int:
        await self.ensure_open()
        return await self.inner.purge(before_day)
