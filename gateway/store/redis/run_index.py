"""Completion of the lists of runs that earlier versions of Runward do not write."""

from __future__ import annotations

from gateway.store.redis import scripts
from gateway.store.redis.script_executor import ScriptBatcher

_ALL_LISTS = ("leases", "ended", "due", "recorded", "runs:")  # with every run, and those that were deleted


async def complete_index(batcher: ScriptBatcher) -> None:
    """Add runs to the lists that they are missing from, some hundred at a time, if any are missing.

    A run whose status was changed by an earlier version leaves the list of its former status. The writes need not be
    on the disk: what a crash of the server loses is added by the next start.
    """
    complete = await batcher.execute(scripts.IS_INDEXED)
    for name in ("unfinished", *(() if complete else _ALL_LISTS)):
        cursor = b"0"
        while True:
            cursor = await batcher.execute(scripts.INDEX_RUNS, name, cursor)
            if cursor == b"0":
                break
