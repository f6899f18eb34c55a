"""Virtual clock for tests, advanced by sleeps or by the test."""

from __future__ import annotations

import asyncio
import random
from datetime import UTC, datetime, timedelta


class ManualClock:
    """Virtual time. `sleep` advances it at once without waiting; `advance` does so from the test.

    `slept` lists what was slept, in seconds. Chance is seeded: the same test sees the same numbers.
    """

    def __init__(self, start: datetime = datetime(2026, 11, 21, 12, tzinfo=UTC), *, seed: int = 1) -> None:
        self._monotonic = 1000.0
        self._wall = start
        self._random = random.Random(seed)
        self.slept: list[float] = []

    def monotonic(self) -> float:
        return self._monotonic

    def now(self) -> datetime:
        return self._wall

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.advance(max(0.0, seconds))
        await asyncio.sleep(0)

    def random(self) -> float:
        return self._random.random()

    def token(self, size: int) -> bytes:
        return self._random.randbytes(size)

    def new_id(self) -> str:
        return self.token(12).hex()

    def advance(self, seconds: float) -> None:
        """Advance both clocks."""
        self._monotonic += seconds
        self._wall += timedelta(seconds=seconds)

    def step_wall(self, seconds: float) -> None:
        """Set the wall clock only, as an administrator or NTP does."""
        self._wall += timedelta(seconds=seconds)
