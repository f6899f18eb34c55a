"""Searches of the memory store: they run in the thread of the event loop, which handles requests meanwhile."""

from __future__ import annotations

import asyncio

import pytest

from gateway.clock import SystemClock
from gateway.store.memory.store import MemoryStore
from gateway.store.run_filter import RunFilter
from tests.store.samples import SAMPLE_FINAL_STATE, new_run

NUMBER = 2_000
"""Of runs, of which none matches."""


@pytest.fixture
async def store() -> MemoryStore:
    store = MemoryStore(SystemClock())
    await store.open()
    for number in range(NUMBER):
        await store.create_run(new_run(number), None, ("all",))
    return store


async def test_other_tasks_run_during_a_long_search_and_may_delete_runs(store: MemoryStore) -> None:
    search = asyncio.create_task(store.list_runs(RunFilter("checkout", tags=("all",), status="succeeded")))
    steps = 0
    while not search.done():
        await asyncio.sleep(0)
        steps += 1
        await store.discard_run(f"run_{steps}", owner="one")
    assert steps > NUMBER / 1_000
    assert ([], None) == ((await search).runs, (await search).stopped_at)


async def test_a_run_that_ends_during_a_search_is_found_once(store: MemoryStore) -> None:
    search = asyncio.create_task(store.list_runs(RunFilter("checkout", status="succeeded")))
    await asyncio.sleep(0)
    for number in (0, NUMBER - 1):  # not examined yet, and examined before
        await store.finish(f"run_{number}", SAMPLE_FINAL_STATE)
    assert ["run_0"] == [run.id for run in (await search).runs]
