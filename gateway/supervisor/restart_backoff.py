"""How long a place stays empty whose worker ended, and when there is no more hope."""

from __future__ import annotations

from dataclasses import dataclass

_STABLE_UPTIME = 10.0  # seconds: who lived that long did not die of its start
_INITIAL_DELAY = 0.1
_MAX_DELAY = 30.0
_MAX_FAILURES = 5


@dataclass(slots=True)
class RestartBackoff:
    """The deaths of one place: `row` counts those that came at once, one after the other."""

    consecutive_failures: int = 0

    def next_delay(self, uptime: float) -> float:
        """The seconds to wait after a life of so many seconds."""
        self.consecutive_failures = 1 if uptime >= _STABLE_UPTIME else self.consecutive_failures + 1
        return min(_MAX_DELAY, _INITIAL_DELAY * 2.0 ** min(self.consecutive_failures - 1, 10))

    @property
    def exhausted(self) -> bool:
        """Whether starting it again has been tried often enough."""
        return self.consecutive_failures >= _MAX_FAILURES
