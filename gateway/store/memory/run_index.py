"""Index of the memory store: the positions of runs by client and tag, each also for all clients and for all tags."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator, Sequence

from gateway.store.records import StoredRun
from gateway.store.run_filter import Position, RunFilter


class RunIndex:
    """Positions in ascending order. Runs are added at the end as a rule, because later ones are created later."""

    def __init__(self) -> None:
        self._positions: dict[tuple[str | None, str], list[Position]] = {}  # client None: of all; tag "": all runs
        self._tags: dict[str, tuple[str, ...]] = {}  # by the id of the run, if it has tags

    def add(self, run: StoredRun, tags: Sequence[str]) -> None:
        """Add a run."""
        for key in _keys(run, tags):
            insort(self._positions.setdefault(key, []), (run.created_at, run.id))
        if tags:
            self._tags[run.id] = tuple(tags)

    def remove(self, run: StoredRun) -> None:
        """Remove a run."""
        for key in _keys(run, self._tags.pop(run.id, ())):
            positions = self._positions[key]
            del positions[bisect_left(positions, (run.created_at, run.id))]
            if not positions:
                del self._positions[key]

    def candidates(self, run_filter: RunFilter) -> list[Position]:
        """Return at most `max_examined` positions within the times of the filter, newest first."""
        positions = min(
            (self._positions.get((run_filter.client, tag), []) for tag in run_filter.tags or ("",)), key=len
        )
        first = 0 if run_filter.created_from is None else bisect_left(positions, (run_filter.created_from, ""))
        end = bisect_left(positions, run_filter.upper_bound)
        return positions[max(first, end - run_filter.max_examined) : end][::-1]

    def has_tags(self, run_id: str, tags: Sequence[str]) -> bool:
        """Return whether the run has all of these tags."""
        return not tags or set(tags) <= set(self._tags.get(run_id, ()))


def _keys(run: StoredRun, tags: Sequence[str]) -> Iterator[tuple[str | None, str]]:
    return ((client, tag) for tag in ("", *tags) for client in (run.client, None))
