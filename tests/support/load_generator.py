"""Open-loop load generator, whose rate is independent of response times."""

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
    """Call `send` `rate` times a second without waiting for earlier calls; returns all results, in order."""
    began = time.monotonic()
    tasks = []
    for number in range(round(rate * seconds)):
        await asyncio.sleep(began + number / rate - time.monotonic())
        tasks.append(asyncio.ensure_future(send()))
    return await asyncio.gather(*tasks)


async def concurrently(count: int, send: Callable[[], Awaitable[T]]) -> list[T]:
    """Call `send` this number of times in parallel."""
    return await asyncio.gather(*(send() for _ in range(count)))


def count_codes(answers: Sequence[ReceivedResponse]) -> Counter[JsonValue]:
    """Return the number of responses by `code`; None counts successful runs."""
    return Counter(answered.json.get("code") for answered in answers)


def total_attempts(answers: Sequence[ReceivedResponse]) -> int:
    """Return the sum of the `attempts` in the responses."""
    return sum(int(str(answered.json.get("attempts", 0))) for answered in answers)


def median(answers: Sequence[ReceivedResponse]) -> float:
    """Return the median duration in seconds."""
    return statistics.median(answered.elapsed for answered in answers)


def p95(answers: Sequence[ReceivedResponse]) -> float:
    """Return the 95th percentile of the durations in seconds."""
    return statistics.quantiles((answered.elapsed for answered in answers), n=20)[-1]
