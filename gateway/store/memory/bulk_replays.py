"""Bulk replays of the memory store."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from typing_extensions import override

from gateway.store.bulk_replay import BulkReplay, BulkReplayStore


class MemoryBulkReplays(BulkReplayStore):
    """Bulk replays by id. `require_open` raises StoreUnavailable if the store is closed."""

    def __init__(self, require_open: Callable[[], None]) -> None:
        self._require_open = require_open
        self._replays: dict[str, BulkReplay] = {}

    @override
    async def add(self, replay: BulkReplay) -> None:
        self._require_open()
        self._replays.setdefault(replay.id, replay)

    @override
    async def get(self, replay_id: str) -> BulkReplay | None:
        self._require_open()
        return self._replays.get(replay_id)

    @override
    async def list_running(self) -> list[BulkReplay]:
        self._require_open()
        found = (each for each in self._replays.values() if each.state == "running")
        return [replace(each, plan=b"") for each in sorted(found, key=lambda each: each.id)]

    @override
    async def change(self, replay: BulkReplay) -> bool:
        self._require_open()
        stored = self._replays.get(replay.id)
        if stored is None or stored.revision != replay.revision:
            return False
        self._replays[replay.id] = replace(
            replay, plan=stored.plan, created_at=stored.created_at, revision=stored.revision + 1
        )
        return True

    @override
    async def purge(self, before_at: float) -> int:
        self._require_open()
        old = [each.id for each in self._replays.values() if each.delete_at < before_at]
        for replay_id in old:
            del self._replays[replay_id]
        return len(old)
