"""Timers of a wait queue: timeouts of the waiting requests, and the one timer of the event loop that serves them."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterator
from heapq import heapify, heappop, heappush

from gateway.clock import Clock
from gateway.limits.queue.fair_queue import Waiter


class WaitTimeouts:
    """Time-outs of the waiting requests, in order. `size`: number of waiting requests."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Waiter]] = []
        self._sequence = 0  # orders equal times
        self.size = 0

    def add(self, waiter: Waiter) -> None:
        """Add a request, by its `expires_at`."""
        self._sequence += 1
        self.size += 1
        heappush(self._heap, (waiter.expires_at, self._sequence, waiter))

    def settle(self, waiter: Waiter) -> None:
        """Remove a request whose wait has ended."""
        waiter.settled = True
        self.size -= 1
        if len(self._heap) > 2 * self.size + 64:  # mostly settled entries: release their memory before they expire
            self._heap = [entry for entry in self._heap if not entry[2].settled]
            heapify(self._heap)

    def next_at(self) -> float:
        """Return the time of the next timeout; infinity if no request waits."""
        while self._heap and self._heap[0][2].settled:
            heappop(self._heap)
        return self._heap[0][0] if self._heap else math.inf

    def due(self, now: float) -> Iterator[Waiter]:
        """Yield the requests that have timed out; each is to be settled before the next one is taken."""
        while self.next_at() <= now:
            yield self._heap[0][2]


class OneShotTimer:
    """Calls `callback` once, at the earliest time scheduled since the last call.

    `fires_at`: monotonic seconds, infinity if not scheduled.
    """

    def __init__(self, clock: Clock, callback: Callable[[], None]) -> None:
        self._clock = clock
        self._callback = callback
        self._task: asyncio.Task[None] | None = None
        self.fires_at = math.inf

    def schedule(self, at: float) -> None:
        """Fire at `at`, unless an earlier time is scheduled."""
        if at < self.fires_at:
            self.cancel()
            self.fires_at = at
            self._task = asyncio.get_running_loop().create_task(self._wait(at))

    def cancel(self) -> None:
        """Do not fire."""
        if self._task is not None:
            self._task.cancel()
        self._task = None
        self.fires_at = math.inf

    async def _wait(self, at: float) -> None:
        await self._clock.sleep(at - self._clock.monotonic())
        self._task = None  # from here on another time can be scheduled
        self.fires_at = math.inf
        self._callback()
