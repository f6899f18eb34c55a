"""The one timer of a waiting line."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable

from gateway.clock import Clock


class OneShotTimer:
    """Calls `ring` once at the earliest moment that was set since it last rang."""

    def __init__(self, clock: Clock, callback: Callable[[], None]) -> None:
        self._clock = clock
        self._callback = callback
        self._task: asyncio.Task[None] | None = None
        self.fires_at = math.inf  # monotonic seconds; infinity: not set

    def schedule(self, at: float) -> None:
        """Ring at `at`, unless an earlier moment is set already."""
        if at < self.fires_at:
            self.cancel()
            self.fires_at = at
            self._task = asyncio.get_running_loop().create_task(self._wait(at))

    def cancel(self) -> None:
        """Do not ring."""
        if self._task is not None:
            self._task.cancel()
        self._task = None
        self.fires_at = math.inf

    async def _wait(self, at: float) -> None:
        await self._clock.sleep(at - self._clock.monotonic())
        self._task = None  # from here on a new one may be set
        self.fires_at = math.inf
        self._callback()
