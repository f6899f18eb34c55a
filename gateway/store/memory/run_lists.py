"""Lists of runs in memory, with a bound on the runs that a search examines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from gateway.clock import Clock
from gateway.store.memory.matching import matches
from gateway.store.memory.run_index import RunIndex
from gateway.store.records import RunOverview, RunPage, StoredRun
from gateway.store.run_filter import RunFilter

_SCAN_BATCH = 500  # runs examined before other tasks run


async def find_runs(runs: Mapping[str, StoredRun], index: RunIndex, run_filter: RunFilter, clock: Clock) -> RunPage:
    """Implement `Store.list_runs`."""
    found: list[RunOverview] = []
    before, examined = run_filter.before, 0
    while examined < run_filter.max_examined:
        part = min(_SCAN_BATCH, run_filter.max_examined - examined)
        positions = index.candidates(replace(run_filter, before=before, max_examined=part))
        for before in positions:
            run = runs[before[1]]
            if index.has_tags(run.id, run_filter.tags) and matches(run, run_filter):
                found.append(run.overview)
                if len(found) == run_filter.limit:
                    return RunPage(found)
        if len(positions) < part:
            return RunPage(found)
        examined += part
        await clock.sleep(0)  # other tasks run in between
    return RunPage(found, before)
