"""When each wait for a provider ends without a turn."""

from __future__ import annotations

import math
from collections.abc import Iterator
from heapq import heapify, heappop, heappush

from gateway.limits.queue.fair_queue import Waiter


class WaitTimeouts:
    """Which waiter gives up next."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Waiter]] = []
        self._sequence = 0  # tells equal moments apart
        self.size = 0  # how many wait

    def add(self, waiter: Waiter) -> None:
        """Remember when it gives up."""
        self._sequence += 1
        self.size += 1
        heappush(self._heap, (waiter.expires_at, self._sequence, waiter))

    def settle(self, waiter: Waiter) -> None:
        """Its wait is over."""
        waiter.settled = True
        self.size -= 1
        if len(self._heap) > 2 * self.size + 64:  # most have had their turn: do not keep them until their ends
            self._heap = [entry for entry in self._heap if not entry[2].settled]
            heapify(self._heap)

    def next_at(self) -> float:
        """When the next one gives up; infinity where nobody waits."""
        while self._heap and self._heap[0][2].settled:
            heappop(self._heap)
        return self._heap[0][0] if self._heap else math.inf

    def due(self, now: float) -> Iterator[Waiter]:
        """Those that give up now; each has to be settled before the next is asked for."""
        while self.next_at() <= now:
            yield self._heap[0][2]
