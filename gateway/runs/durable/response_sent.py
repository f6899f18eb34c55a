"""A client that is told of its run before anything of the run can be heard elsewhere."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field

from gateway.clock import Clock

_MAX_WAIT = 1.0  # seconds


@dataclass(frozen=True, slots=True)
class ResponseSent:
    """Whether the answer that names a run was written. Its run is kept by then, and starts afterwards."""

    clock: Clock
    _sent: asyncio.Event = field(default_factory=asyncio.Event)

    def mark_sent(self) -> None:
        """It was."""
        self._sent.set()

    async def run_after(self, start: Callable[[], Coroutine[object, object, None]]) -> None:
        """Begin once it was, or after a second: the client may have gone, and its run was promised all the same."""
        await self._wait()
        await start()

    async def _wait(self) -> None:
        waiters = [asyncio.ensure_future(self._sent.wait()), asyncio.ensure_future(self.clock.sleep(_MAX_WAIT))]
        try:
            await asyncio.wait(waiters, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for waiter in waiters:
                waiter.cancel()
