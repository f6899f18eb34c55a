"""Bulk replays of the supervisor's store, which is opened at the first request."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from typing_extensions import override

from gateway.store.bulk_replay import BulkReplay, BulkReplayStore


@dataclass(frozen=True, slots=True)
class LazyBulkReplays(BulkReplayStore):
    """The bulk replays of `inner`; `ensure_open` opens its store, and may raise StoreUnavailable."""

    inner: BulkReplayStore
    ensure_open: Callable[[], Awaitable[None]]

    @override
    async def add(self, replay: BulkReplay) -> None:
        await self.ensure_open()
        await self.inner.add(replay)

    @override
    async def get(self, replay_id: str) -> BulkReplay | None:
        await self.ensure_open()
        return await self.inner.get(replay_id)

    @override
    async def list_running(self) -> list[BulkReplay]:
        await self.ensure_open()
        return await self.inner.list_running()

    @override
    async def change(self, replay: BulkReplay) -> bool:
        await self.ensure_open()
        return await self.inner.change(replay)

    @override
    async def purge(self, before_at: float) -> int:
        await self.ensure_open()
        return await self.inner.purge(before_at)
