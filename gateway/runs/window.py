"""Counts of what happened lately: a window that slides in small steps."""

from __future__ import annotations

from collections.abc import Callable

_STEPS = 10


class Window:
    """How often two kinds of things happened in the last `seconds`, to a tenth of that."""

    __slots__ = ("_first", "_monotonic", "_now", "_second", "_step")

    def __init__(self, seconds: float, monotonic: Callable[[], float]) -> None:
        self._step = seconds / _STEPS
        self._monotonic = monotonic
        self.clear()

    def clear(self) -> None:
        """Forget everything."""
        self._first = [0] * _STEPS
        self._second = [0] * _STEPS
        self._now = int(self._monotonic() / self._step)

    def add(self, first: int, second: int) -> None:
        """Count what happens now."""
        self._slide()
        self._first[self._now % _STEPS] += first
        self._second[self._now % _STEPS] += second

    def counts(self) -> tuple[int, int]:
        """How many of either there were."""
        self._slide()
        return sum(self._first), sum(self._second)

    def _slide(self) -> None:
        now = int(self._monotonic() / self._step)
        if now == self._now:
            return
        for step in range(max(self._now + 1, now - _STEPS + 1), now + 1):
            self._first[step % _STEPS] = self._second[step % _STEPS] = 0
        self._now = now
