"""The supervisor's own way to the store of all workers, for what operators ask of it; opened when they first do."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from gateway.store.contract import Store


@dataclass(slots=True)
class LazyStore:
    """As much of `store` as `CallbacksFace` needs. Where it can not be opened, the next question tries again."""

    store: Store
    _is_open: bool = False
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def list_by_callback_state(self, state: str, *, limit: int, after: str = "") -> list[str]:
        """See `Store.called_back`."""
        await self._ensure_open()
        return await self.store.list_by_callback_state(state, limit=limit, after=after)

    async def redeliver_callback(self, run_id: str, *, now_at: float) -> bool:
        """See `Store.redeliver`. Whichever worker looks for due callbacks next finds it."""
        await self._ensure_open()
        return await self.store.redeliver_callback(run_id, now_at=now_at)

    async def close(self) -> None:
        """Let go of it, if it was opened."""
        async with self._lock:
            if self._is_open:
                self._is_open = False
                await self.store.close()

    async def _ensure_open(self) -> None:
        async with self._lock:
            if not self._is_open:
                await self.store.open()
                self._is_open = True
