"""Sliding window: counters of recent events, in ten buckets."""

from __future__ import annotations

from collections.abc import Callable

_BUCKETS = 10


class SlidingWindow:
    """Counters of two kinds of events in the last `seconds`, with a resolution of a tenth of that."""

    __slots__ = ("_bucket_seconds", "_current_bucket", "_first", "_monotonic", "_second")

    def __init__(self, seconds: float, monotonic: Callable[[], float]) -> None:
        self._bucket_seconds = seconds / _BUCKETS
        self._monotonic = monotonic
        self.clear()

    def clear(self) -> None:
        """Reset both counters."""
        self._first = [0] * _BUCKETS
        self._second = [0] * _BUCKETS
        self._current_bucket = int(self._monotonic() / self._bucket_seconds)

    def add(self, first: int, second: int) -> None:
        """Count events that happen now."""
        now = int(self._monotonic() / self._bucket_seconds)
        if now != self._current_bucket:
            self._slide(now)
        self._first[now % _BUCKETS] += first
        self._second[now % _BUCKETS] += second

    def counts(self) -> tuple[int, int]:
        """Return both counters."""
        self._slide(int(self._monotonic() / self._bucket_seconds))
        return sum(self._first), sum(self._second)

    def _slide(self, now: int) -> None:
        for bucket in range(max(self._current_bucket + 1, now - _BUCKETS + 1), now + 1):
            self._first[bucket % _BUCKETS] = self._second[bucket % _BUCKETS] = 0
        self._current_bucket = now
