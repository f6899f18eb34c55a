"""Completion of the lists of runs that earlier versions of Runward do not write."""

from __future__ import annotations

from contextlib import suppress

from gateway.store.contract import StoreUnavailable
from gateway.store.redis import scripts
from gateway.store.redis.script_executor import ScriptBatcher

_DURABLE_RUNS = ("ended", "due", "leases")  # each durable run is in one of these lists


async def complete_index(batcher: ScriptBatcher) -> None:
    """Add runs to the lists that they are missing from, some hundred at a time, if any are missing.

    Runs that an earlier version deleted, or whose status it changed, leave the lists where they do not belong. The
    writes need not be on the disk, and errors are ignored: the next start adds what is still missing.
    """
    with suppress(StoreUnavailable):
        complete = await batcher.execute(scripts.IS_INDEXED)
        for name in (*(() if complete else (*_DURABLE_RUNS, "runs:")), "unfinished"):
            cursor = await batcher.execute(scripts.INDEX_RUNS, name, 0)
            while cursor != b"0":
                cursor = await batcher.execute(scripts.INDEX_RUNS, name, cursor)
