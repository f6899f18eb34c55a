"""Virtual clock for concurrent sleepers: time passes only on demand, and wakes them in order."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from heapq import heappop, heappush
from typing import TypeVar

from tests.support.clock import ManualClock

T = TypeVar("T")

_LOOP_ITERATIONS = 12  # iterations of the loop: more than the longest chain of wake-ups


async def run_ready_tasks() -> None:
    """Let every task run that can."""
    for _ in range(_LOOP_ITERATIONS):
        await asyncio.sleep(0)


class VirtualClock(ManualClock):
    """Like `ManualClock`, but `sleep` waits until the test has advanced the time."""

    def __init__(self, *, seed: int = 1) -> None:
        super().__init__(seed=seed)
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._sequence = 0

    async def sleep(self, seconds: float) -> None:
        """See `Clock.sleep`."""
        self.slept.append(seconds)
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        self._sequence += 1
        woken = asyncio.get_running_loop().create_future()
        heappush(self._sleepers, (self.monotonic() + seconds, self._sequence, woken))
        await woken

    async def run_ready_tasks(self) -> None:
        """Run tasks until none is ready."""
        await run_ready_tasks()

    async def run_for(self, seconds: float) -> None:
        """Advance the time by `seconds`, and wake sleepers in the order of their times."""
        end = self.monotonic() + seconds
        await self.run_ready_tasks()
        while self._sleepers and self._sleepers[0][0] <= end:
            at, _, woken = heappop(self._sleepers)
            if not woken.done():
                self.advance_to(at)
                woken.set_result(None)
                await self.run_ready_tasks()
        self.advance_to(end)

    async def run_until_done(self, work: Awaitable[T], *, at_most: float = 3600.0) -> T:
        """Advance the time until `work` is done. Raises TimeoutError."""
        task = asyncio.ensure_future(work)
        end = self.monotonic() + at_most
        await self.run_ready_tasks()
        while not task.done():
            if not self._sleepers or self._sleepers[0][0] > end:
                task.cancel()
                raise TimeoutError
            await self.run_for(self._sleepers[0][0] - self.monotonic())
        return await task

    def advance_to(self, at: float) -> None:
        """Advance both clocks to the monotonic time `at`, exactly."""
        self.advance(at - self.monotonic())
        self._monotonic = at
