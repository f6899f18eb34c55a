"""Clock: time, sleep and randomness as an injected dependency."""

from __future__ import annotations

import asyncio
import os
import random
import time
from datetime import UTC, datetime
from functools import partial
from typing import Protocol


class Clock(Protocol):
    """Time, sleep and randomness; tests replace all three."""

    def monotonic(self) -> float:
        """Return seconds of a monotonic clock, for deadlines and limits."""

    def now(self) -> datetime:
        """Return the wall clock time in UTC, for logs, documents and other systems."""

    async def sleep(self, seconds: float) -> None:
        """Sleep for `seconds`; 0 or less yields to the event loop once."""

    def random(self) -> float:
        """Return a number in [0, 1) that is not secret, for jitter."""

    def token(self, size: int) -> bytes:
        """Return `size` cryptographically random bytes, for ids and keys."""


class SystemClock:
    """The clock and random generators of the operating system."""

    monotonic = staticmethod(time.monotonic)
    sleep = staticmethod(asyncio.sleep)
    random = staticmethod(random.random)
    token = staticmethod(os.urandom)
    now = staticmethod(partial(datetime.now, UTC))


def format_rfc3339(timestamp: datetime) -> str:
    """Format a UTC time by RFC 3339, with milliseconds: 2026-11-21T12:00:00.000Z."""
    return timestamp.isoformat(timespec="milliseconds")[:-6] + "Z"
