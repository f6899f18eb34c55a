"""Load as the tests of this package make it: an open loop, which does not slow down with what it measures."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections import Counter
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from providers.contract import JsonValue
    from tests.support.client import ReceivedResponse

T = TypeVar("T")


async def at_constant_rate(rate: float, seconds: float, send: Callable[[], Awaitable[T]]) -> list[T]:
    """Call `send` `rate` times a second, whether the earlier ones have ended or not; all results, in order."""
    began = time.monotonic()
    tasks = []
    for number in range(round(rate * seconds)):
        await asyncio.sleep(began + number / rate - time.monotonic())
        tasks.append(asyncio.ensure_future(send()))
    return await asyncio.gather(*tasks)


async def concurrently(count: int, send: Callable[[], Awaitable[T]]) -> list[T]:
    """Call `send` that often in parallel."""
    return await asyncio.gather(*(send() for _ in range(count)))


def count_codes(answers: Sequence[ReceivedResponse]) -> Counter[JsonValue]:
    """How often each problem's `code` came; None counts the runs that succeeded."""
    return Counter(answered.json.get("code") for answered in answers)


def total_attempts(answers: Sequence[ReceivedResponse]) -> int:
    """How often the provider was called for these, as they say themselves."""
    return sum(int(str(answered.json.get("attempts", 0))) for answered in answers)


def median(answers: Sequence[ReceivedResponse]) -> float:
    """The middle one of their durations in seconds."""
    return statistics.median(answered.elapsed for answered in answers)


def p95(answers: Sequence[ReceivedResponse]) -> float:
    """The duration in seconds that one in twenty exceeds."""
    return statistics.quantiles((answered.elapsed for answered in answers), n=20)[-1]
