"""Retry budget: bounds retries to a share of the traffic, so that they do not multiply it during an outage."""

from __future__ import annotations

from collections.abc import Callable

from gateway.runs.resilience.sliding_window import SlidingWindow

_RETRY_RATIO = 0.2
_MIN_RETRIES = 3
_WINDOW_SECONDS = 10.0


class RetryBudget:
    """Retry budget of one provider: retries for 20 % of the runs of the last 10 seconds, and at least three."""

    __slots__ = ("_window",)

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._window = SlidingWindow(_WINDOW_SECONDS, monotonic)

    def record_run(self) -> None:
        """Record the first start of a run."""
        self._window.add(1, 0)

    def try_spend(self) -> bool:
        """Take one retry from the budget; returns False if it is exhausted."""
        runs, spent = self._window.counts()
        if spent + 1 > max(_MIN_RETRIES, runs * _RETRY_RATIO):
            return False
        self._window.add(0, 1)
        return True
