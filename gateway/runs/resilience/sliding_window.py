"""Sliding window: counters of recent events, in ten buckets."""

from __future__ import annotations

from collections.abc import Callable

_BUCKETS = 10


class SlidingWindow:
    """Counters of two kinds of events in the last `seconds`, with a resolution of a tenth of that."""

    __slots__ = (
        "_bucket_ends_at",
        "_bucket_seconds",
        "_current_bucket",
        "_first",
        "_index",
        "_monotonic",
        "_second",
    )

    def __init__(self, seconds: float, monotonic: Callable[[], float]) -> None:
        self._bucket_seconds = seconds / _BUCKETS
        self._monotonic = monotonic
        self.clear()

    def clear(self) -> None:
        """Reset both counters."""
        self._first = [0] * _BUCKETS
        self._second = [0] * _BUCKETS
        self._begin_bucket(int(self._monotonic() / self._bucket_seconds))

    def add(self, first: int, second: int) -> None:
        """Count events that happen now."""
        if self._monotonic() >= self._bucket_ends_at:
            self._slide()
        self._first[self._index] += first
        self._second[self._index] += second

    def counts(self) -> tuple[int, int]:
        """Return both counters."""
        self._slide()
        return sum(self._first), sum(self._second)

    def _slide(self) -> None:
        """Go on to the bucket of the present; those that come back into use are empty."""
        now = int(self._monotonic() / self._bucket_seconds)
        for bucket in range(max(self._current_bucket + 1, now - _BUCKETS + 1), now + 1):
            self._first[bucket % _BUCKETS] = self._second[bucket % _BUCKETS] = 0
        self._begin_bucket(now)

    def _begin_bucket(self, number: int) -> None:
        self._current_bucket, self._index = number, number % _BUCKETS
        self._bucket_ends_at = (number + 1) * self._bucket_seconds
