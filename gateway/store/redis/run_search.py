"""Search of the Redis store."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from gateway.redis.lua_script import RedisReply
from gateway.store.records import RunOverview, RunPage
from gateway.store.redis import codec, scripts
from gateway.store.run_filter import RunFilter, details_match

_LIST_BATCH = 100  # overviews returned by one script
_SCAN_BATCH = 500  # runs examined by one script


async def search_runs(read: Callable[..., Awaitable[RedisReply]], run_filter: RunFilter) -> RunPage:
    """Implement `Store.list_runs`; `read` runs a script with its arguments."""
    # One script for each part of a long search, so that other scripts can run in between.
    before_at, before = run_filter.upper_bound
    position: list[Any] = [codec.encode_float(before_at), before]
    conditions = codec.encode_conditions(run_filter)
    found: list[RunOverview] = []
    examined = 0
    while examined < run_filter.max_examined:
        bounds = (
            min(_LIST_BATCH, run_filter.limit - len(found)),
            min(_SCAN_BATCH, run_filter.max_examined - examined),
        )
        page, count, *position = await read(scripts.LIST_RUNS, *position, *bounds, *conditions)
        overviews = [run for row in page if (run := codec.decode_overview(row)) is not None]
        found += [run for run in overviews if details_match(run.details, run_filter)]
        examined += count
        if not position or len(found) == run_filter.limit:
            return RunPage(found)
    score, run_id = position
    return RunPage(found, (float(score), run_id.decode()))
