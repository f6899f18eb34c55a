"""Runs in memory that are not durable, and until when their content is kept."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice

from gateway.store.history import HistoryEntry
from gateway.store.records import StoredRun


class RecordedRuns:
    """Ids of recorded runs, in the order of their ends."""

    def __init__(self) -> None:
        self._ids: dict[str, None] = {}
        self._content: dict[str, float] = {}

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

    def surplus(self, runs: Mapping[str, StoredRun], before_at: float, most: int) -> list[str]:
        """Return the runs that ended before this time, and the oldest while there are more than `most`."""
        surplus = len(self._ids) - most
        return [
            run_id
            for number, run_id in enumerate(self._ids)
            if number < surplus or (runs[run_id].finished_at or 0.0) < before_at
        ]

    def oldest_above(self, most: int) -> list[str]:
        """Return the oldest runs while there are more than `most`."""
        return list(islice(self._ids, max(0, len(self._ids) - most)))

    def expired_content(self, before_at: float) -> list[str]:
        """Return the runs whose content was kept until before this time."""
        return [run_id for run_id, until_at in self._content.items() if until_at < before_at]
