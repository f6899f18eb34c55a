"""The retry budget: in an outage, repetitions are a small share of the traffic, not a multiple of it."""

from __future__ import annotations

from collections.abc import Callable

from gateway.runs.resilience.sliding_window import SlidingWindow

_RETRY_RATIO = 0.2
_MIN_RETRIES = 3
_WINDOW_SECONDS = 10.0


class RetryBudget:
    """One provider's: starts may be repeated for a fifth of the last 10 seconds' runs, and three times in any case."""

    __slots__ = ("_window",)

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._window = SlidingWindow(_WINDOW_SECONDS, monotonic)

    def record_run(self) -> None:
        """A run is about to be started for the first time."""
        self._window.add(1, 0)

    def try_spend(self) -> bool:
        """Take one repetition; False where there is none left, and then nothing is taken."""
        runs, spent = self._window.counts()
        if spent + 1 > max(_MIN_RETRIES, runs * _RETRY_RATIO):
            return False
        self._window.add(0, 1)
        return True
