"""The supervisor's own way to the store of all workers, for what operators ask of it; opened when they first do."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from gateway.store.contract import Store


@dataclass(slots=True)
class SharedStore:
    """As much of `store` as `CallbacksFace` needs. Where it can not be opened, the next question tries again."""

    store: Store
    _open: bool = False
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def called_back(self, state: str, *, limit: int, after: str = "") -> list[str]:
        """See `Store.called_back`."""
        await self._opened()
        return await self.store.called_back(state, limit=limit, after=after)

    async def redeliver(self, run_id: str, *, now_at: float) -> bool:
        """See `Store.redeliver`. Whichever worker looks for due callbacks next finds it."""
        await self._opened()
        return await self.store.redeliver(run_id, now_at=now_at)

    async def close(self) -> None:
        """Let go of it, if it was opened."""
        async with self._turn:
            if self._open:
                self._open = False
                await self.store.close()

    async def _opened(self) -> None:
        async with self._turn:
            if not self._open:
                await self.store.open()
                self._open = True
