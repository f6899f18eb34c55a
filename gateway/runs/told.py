"""A client that is told of its run before anything of the run can be heard elsewhere."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field

from gateway.clock import Clock

_LONGEST = 1.0  # seconds


@dataclass(frozen=True, slots=True)
class Told:
    """Whether the answer that names a run was written. Its run is kept by then, and starts afterwards."""

    clock: Clock
    _written: asyncio.Event = field(default_factory=asyncio.Event)

    def done(self) -> None:
        """It was."""
        self._written.set()

    async def before(self, begin: Callable[[], Coroutine[object, object, None]]) -> None:
        """Begin once it was, or after a second: the client may have gone, and its run was promised all the same."""
        await self._wait()
        await begin()

    async def _wait(self) -> None:
        ways = [asyncio.ensure_future(self._written.wait()), asyncio.ensure_future(self.clock.sleep(_LONGEST))]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
