"""How long a place stays empty whose worker ended, and when there is no more hope."""

from __future__ import annotations

from dataclasses import dataclass

_SOUND = 10.0  # seconds: who lived that long did not die of its start
_FIRST = 0.1
_LONGEST = 30.0
_HOPELESS = 5


@dataclass(slots=True)
class Relaunch:
    """The deaths of one place: `row` counts those that came at once, one after the other."""

    row: int = 0

    def after(self, lived: float) -> float:
        """The seconds to wait after a life of so many seconds."""
        self.row = 1 if lived >= _SOUND else self.row + 1
        return min(_LONGEST, _FIRST * 2.0 ** min(self.row - 1, 10))

    @property
    def hopeless(self) -> bool:
        """Whether starting it again has been tried often enough."""
        return self.row >= _HOPELESS
