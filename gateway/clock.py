"""The one place where time passes and chance has a say; everything else is handed a `Clock`."""

from __future__ import annotations

import asyncio
import os
import random
import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """Time, sleep and randomness, so that a test can own all three."""

    def monotonic(self) -> float:
        """Seconds that only ever grow; deadlines and limits are counted in them."""

    def now(self) -> datetime:
        """The wall clock, in UTC: for what people and other systems read."""

    async def sleep(self, seconds: float) -> None:
        """Let `seconds` pass (0 or less: one turn of the loop)."""

    def random(self) -> float:
        """A number in [0, 1) that need not be secret: jitter."""

    def token(self, size: int) -> bytes:
        """`size` bytes that nobody can guess: ids and keys."""


class SystemClock:
    """The machine's own."""

    monotonic = staticmethod(time.monotonic)
    sleep = staticmethod(asyncio.sleep)
    random = staticmethod(random.random)
    token = staticmethod(os.urandom)

    @staticmethod
    def now() -> datetime:
        """See `Clock.now`."""
        return datetime.now(UTC)


def format_rfc3339(timestamp: datetime) -> str:
    """A UTC time as RFC 3339 has it, to the millisecond: 2026-11-21T12:00:00.000Z."""
    return timestamp.isoformat(timespec="milliseconds")[:-6] + "Z"
