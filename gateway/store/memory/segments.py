"""Segments of the history in memory."""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable, Mapping, Sequence
from math import inf
from operator import attrgetter

from gateway.store import success_segments
from gateway.store.history import HistoryEntry, SuccessRecord
from gateway.store.records import RunOverview, RunPage
from gateway.store.run_filter import RunFilter
from gateway.store.success_segments import SuccessSegment
from gateway.store.usage import RunUsage


class MemorySegments:
    """Segments in the order of their ends. `count`: runs in them."""

    def __init__(self) -> None:
        self._segments: list[SuccessSegment] = []
        self.count = 0

    def add(
        self, records: Sequence[SuccessRecord], count_usages: Callable[[Mapping[RunUsage, int]], None]
    ) -> list[HistoryEntry]:
        """Add segments of these records, unless they are there; returns the records that belong to none, as entries.

        `count_usages` is called with the usages of each segment that is added.
        """
        segments, rest = success_segments.split(records)
        for segment in segments:
            if segment not in self._segments:
                self._add(segment)
                count_usages(segment.usages)
        return [record.entry for record in rest]

    def _add(self, segment: SuccessSegment) -> None:
        insort(self._segments, segment, key=attrgetter("ended_at"))
        self.count += segment.count

    def get_overview(self, run_id: str) -> RunOverview | None:
        """Return a run, or None if no segment has it."""
        found = self._find(run_id)
        return None if found is None else found[0]

    def get_timeline(self, run_id: str) -> bytes | None:
        """Return the timeline of a run, or None if no segment has it."""
        found = self._find(run_id)
        return None if found is None else found[1]

    def _find(self, run_id: str) -> tuple[RunOverview, bytes] | None:
        wanted = success_segments.hash_of(run_id)
        for segment in self._segments:
            if segment.first_id <= run_id <= segment.last_id and wanted in segment.hashes:
                found = success_segments.find(segment.records, run_id)
                if found is not None:
                    number, line = found
                    overview = success_segments.decode_overview(line, segment.client)
                    return overview, segment.timelines.split(b"\0")[number]
        return None

    def list_runs(self, run_filter: RunFilter) -> RunPage:
        """Implement `Store.list_runs` for the runs in segments."""
        if not success_segments.may_match(run_filter):
            return RunPage([])
        wanted = [segment for segment in self._segments if run_filter.client in {None, segment.client}]
        wanted.sort(key=attrgetter("newest_at"), reverse=True)
        return success_segments.search(wanted, attrgetter("records"), run_filter)

    @property
    def oldest_end(self) -> float:
        """The time at which the last run of the oldest segment ended; infinite if there is no segment."""
        return self._segments[0].ended_at if self._segments else inf

    def remove_ended(self, before_at: float) -> None:
        """Remove the segments whose last run ended before this time."""
        while self.oldest_end < before_at:
            self.remove_oldest()

    def remove_oldest(self, most: float = inf) -> int:
        """Remove the oldest segment, or of its runs the oldest `most`; returns the number of runs."""
        if not self._segments:
            return 0
        segment = self._segments.pop(0)
        self.count -= segment.count
        left = success_segments.without_oldest(segment, int(most)) if most < segment.count else None
        if left is not None:
            self._add(left)
        return segment.count - (0 if left is None else left.count)
