"""Recent counts: by how much counters that never decrease have grown within a window of time."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(slots=True)
class RecentCounts:
    """Growth of counters within the last `window` seconds, as exact as the interval between two calls of `add`.

    The counters were 0 when this object was made.
    """

    window: float
    _samples: deque[tuple[float, Mapping[str, float]]] = field(default_factory=deque)
    _base: Mapping[str, float] = field(default_factory=dict)

    def add(self, now: float, counts: Mapping[str, float]) -> None:
        """Remember the counters at this monotonic time. To be called at regular intervals: each sample is kept."""
        self._samples.append((now, dict(counts)))
        while self._samples and self._samples[0][0] <= now - self.window:
            self._base = self._samples.popleft()[1]

    def growth(self, counts: Mapping[str, float]) -> dict[str, int]:
        """Return by how much each counter has grown, without those that have not."""
        grown = {name: int(count - self._base.get(name, 0)) for name, count in counts.items()}
        return {name: count for name, count in grown.items() if count > 0}
