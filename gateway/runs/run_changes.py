"""Runs that were created or have ended since the last look at the store, for a list on a screen that is kept current.

One look reads the newest 100 runs, and 10 of the unfinished ones that it has seen and that are no longer among them. It
is not complete: a run that is not kept appears at its end, and is missed if 100 newer ones are stored by then. The list
of runs is what is certain.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Protocol

from gateway.store.records import RunOverview, RunPage
from gateway.store.run_filter import RunFilter

_NEWEST = 100
_FURTHER = 10
_MAX_KNOWN = 1000
_LATENESS = 60.0  # seconds: an older run in the list is there because newer ones were deleted


class ChangesStore(Protocol):
    """The part of `Store` that this module uses. Every method may raise StoreUnavailable."""

    async def list_runs(self, run_filter: RunFilter) -> RunPage:
        """Runs of the filter, newest first."""

    async def get_overview(self, run_id: str) -> RunOverview | None:
        """A run without its input and output, or None."""


@dataclass(slots=True)
class RunChanges:
    """What has changed from one look to the next. At most 1000 runs are remembered, those that changed last."""

    store: ChangesStore
    _known: OrderedDict[str, tuple[str, bool]] = field(default_factory=OrderedDict)
    _looked_at: float | None = None

    async def look(self, now_at: float) -> list[RunOverview]:
        """Return runs that are new, or have another status, newest first; none at the first look.

        `now_at`: the time in seconds since 1970. Raises StoreUnavailable.
        """
        newest = (await self.store.list_runs(RunFilter(None, limit=_NEWEST))).runs
        listed = {run.id for run in newest}
        unfinished = [run_id for run_id, (_, ended) in self._known.items() if not ended and run_id not in listed]
        further = [await self.store.get_overview(run_id) for run_id in unfinished[:_FURTHER]]
        for run_id in unfinished[:_FURTHER]:  # the others are next
            self._known.move_to_end(run_id)
        for run_id, run in zip(unfinished, further, strict=False):
            if run is None:
                del self._known[run_id]
        changed = [run for run in (*newest, *further) if run is not None and self._is_change(run)]
        self._looked_at = now_at
        while len(self._known) > _MAX_KNOWN:
            self._known.popitem(last=False)
        return changed

    def _is_change(self, run: RunOverview) -> bool:
        state = run.status, run.finished_at is not None
        before = self._known.get(run.id)
        if before == state:
            return False
        self._known[run.id] = state
        self._known.move_to_end(run.id)
        if self._looked_at is None:
            return False
        return before is not None or max(run.created_at, run.finished_at or 0.0) > self._looked_at - _LATENESS
