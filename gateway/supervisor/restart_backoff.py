"""Exponential backoff for the restart of a worker."""

from __future__ import annotations

from dataclasses import dataclass

_STABLE_UPTIME = 10.0  # seconds after which an exit is no failure to start
_INITIAL_DELAY = 0.1  # seconds
_MAX_DELAY = 30.0  # seconds
_MAX_FAILURES = 5


@dataclass(slots=True)
class RestartBackoff:
    """Restart delays of one worker slot. `consecutive_failures` counts exits shortly after the start."""

    consecutive_failures: int = 0

    def next_delay(self, uptime: float) -> float:
        """Return the delay in seconds before the next start, given the uptime in seconds."""
        self.consecutive_failures = 1 if uptime >= _STABLE_UPTIME else self.consecutive_failures + 1
        return min(_MAX_DELAY, _INITIAL_DELAY * 2.0 ** min(self.consecutive_failures - 1, 10))

    @property
    def exhausted(self) -> bool:
        """True if no further restart should be tried."""
        return self.consecutive_failures >= _MAX_FAILURES
