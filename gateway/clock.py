"""Clock: time, sleep and randomness as an injected dependency."""

from __future__ import annotations

import asyncio
import os
import random
import time
from datetime import UTC, datetime, timedelta
from functools import lru_cache, partial
from typing import Protocol

_ID_BYTES = 12
_IDS = 64  # ids that are made at once
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


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
        """Return `size` cryptographically random bytes, for keys and secrets."""

    def new_id(self) -> str:
        """Return 24 hexadecimal digits that cannot be guessed, for ids of requests, runs and acts."""


_ids: list[str] = []
os.register_at_fork(after_in_child=_ids.clear)  # the parent will return them


def _new_id() -> str:
    """Return an id of a block of random bytes, because the operating system takes a microsecond for each call.

    Each is returned once: `pop` and `extend` are atomic, so threads never get the same one, and a process that is
    forked has none of its parent's. Keys, secrets and nonces are not kept in memory so: `token` does not use the block.
    """
    try:
        return _ids.pop()
    except IndexError:
        digits = os.urandom(_IDS * _ID_BYTES).hex()
        first, *others = [digits[at : at + 2 * _ID_BYTES] for at in range(0, len(digits), 2 * _ID_BYTES)]
        _ids.extend(others)
        return first


class SystemClock:
    """The clock and random generators of the operating system."""

    monotonic = staticmethod(time.monotonic)
    sleep = staticmethod(asyncio.sleep)
    random = staticmethod(random.random)
    token = staticmethod(os.urandom)
    new_id = staticmethod(_new_id)
    now = staticmethod(partial(datetime.now, UTC))


def format_rfc3339(timestamp: datetime) -> str:
    """Format a UTC time by RFC 3339, with milliseconds: 2026-11-21T12:00:00.000Z."""
    since = timestamp - _EPOCH
    return f"{_format_second(since.days, since.seconds)}.{since.microseconds // 1000:03}Z"


@lru_cache(maxsize=1024)  # most times are of the same few seconds, and `isoformat` takes microseconds
def _format_second(days: int, seconds: int) -> str:
    """Format a time after 1970 without its fraction."""
    return (_EPOCH + timedelta(days, seconds)).isoformat()[:-6]
