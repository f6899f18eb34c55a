"""A clock on which several may sleep at once: time passes only when the test says so, and wakes them in order."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from heapq import heappop, heappush
from typing import TypeVar

from tests.support.clock import ManualClock

T = TypeVar("T")

_LOOP_ITERATIONS = 12  # of the loop: more than any chain of wake-ups in the limits is long


async def run_ready_tasks() -> None:
    """Let every task run that can."""
    for _ in range(_LOOP_ITERATIONS):
        await asyncio.sleep(0)


class VirtualClock(ManualClock):
    """Like `ManualClock`, but a `sleep` waits until the test has let its time pass."""

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
        """Let everybody do what can be done at this moment."""
        await run_ready_tasks()

    async def run_for(self, seconds: float) -> None:
        """Let `seconds` pass, and everybody wake on the way whose time has come."""
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
        """Let time pass until `work` is done; TimeoutError where that takes too long."""
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
        """Set both clocks on to the monotonic moment `at`, exactly."""
        self.advance(at - self.monotonic())
        self._monotonic = at
