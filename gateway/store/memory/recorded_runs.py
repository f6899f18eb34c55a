"""Runs in memory that are not durable, and until when their content is kept."""

from __future__ import annotations

from collections.abc import Mapping
from math import inf

from gateway.store.history import HistoryEntry
from gateway.store.memory.segments import MemorySegments
from gateway.store.records import StoredRun


class RecordedRuns:
    """Ids of recorded runs, in the order of their ends, and `segments`, which have others."""

    def __init__(self) -> None:
        self._ids: dict[str, None] = {}
        self._content: dict[str, float] = {}
        self.segments = MemorySegments()

    def add(self, entry: HistoryEntry) -> None:
        """Add a run."""
        self._ids[entry.run.id] = None
        if entry.content_until_at is not None:
            self._content[entry.run.id] = entry.content_until_at

    def has_content(self, run_id: str) -> bool:
        """Return whether the content of a run is kept."""
        return run_id in self._content

    def remove_content(self, run_id: str) -> None:
        """Forget the content of a run."""
        self._content.pop(run_id, None)

    def remove(self, run_id: str) -> None:
        """Forget a run."""
        self._ids.pop(run_id, None)
        self._content.pop(run_id, None)

    def __len__(self) -> int:
        return len(self._ids) + self.segments.count

    def remove_surplus(
        self, runs: Mapping[str, StoredRun], most: int, before_at: float = -inf, *, whole: bool = False
    ) -> list[str]:
        """Remove segments that ended before this time, and the oldest while there are more than `most` runs.

        Returns the single runs that are to be removed for the same reasons. `whole`: no part of a segment stays.
        """
        self.segments.remove_ended(before_at)
        old = {run_id: None for run_id in self._ids if before_at > -inf and _end_of(runs[run_id]) < before_at}
        surplus = len(self) - len(old) - most
        others = (run_id for run_id in self._ids if run_id not in old) if surplus > 0 else iter(())
        oldest = next(others, None)
        while surplus > 0:
            if oldest is not None and _end_of(runs[oldest]) <= self.segments.oldest_end:
                old[oldest] = None
                surplus -= 1
                oldest = next(others, None)
            else:
                surplus -= self.segments.remove_oldest(inf if whole else surplus)
        return list(old)

    def expired_content(self, before_at: float) -> list[str]:
        """Return the runs whose content was kept until before this time."""
        return [run_id for run_id, until_at in self._content.items() if until_at < before_at]


def _end_of(run: StoredRun) -> float:
    return run.finished_at or 0.0
