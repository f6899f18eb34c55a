"""Store contract: lists of runs, newest first, page by page, without gaps or duplicates."""

from __future__ import annotations

from dataclasses import replace
from itertools import chain

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.store.contract import Store
from gateway.store.records import RunOverview
from gateway.store.run_filter import RunFilter
from tests.store.samples import NOW, SAMPLE_FINAL_STATE, listed, new_run
from tests.support.examples import examples


async def _pages(store: Store, wanted: RunFilter) -> list[list[str]]:
    """Return all pages by following the cursor."""
    pages: list[list[str]] = []
    runs: list[RunOverview] = await listed(store, wanted)
    while runs and len(pages) < 100:
        pages.append([run.id for run in runs])
        runs = await listed(store, replace(wanted, before=(runs[-1].created_at, runs[-1].id)))
    return pages


async def test_newest_come_first(store: Store) -> None:
    for number in (2, 1, 3):
        await store.create_run(new_run(number), None)
    assert [new_run(3).overview, new_run(2).overview, new_run(1).overview] == await listed(store, RunFilter("checkout"))


async def test_a_client_sees_its_own(store: Store) -> None:
    """R78: also in lists."""
    await store.create_run(new_run(1), None)
    await store.create_run(new_run(2, client="other"), None)
    assert [new_run(1).overview] == await listed(store, RunFilter("checkout"))
    assert [] == await listed(store, RunFilter("unknown"))


async def test_pages_follow_each_other(store: Store) -> None:
    for number in range(7):
        await store.create_run(new_run(number), None)
    assert [["run_6", "run_5", "run_4"], ["run_3", "run_2", "run_1"], ["run_0"]] == await _pages(
        store, RunFilter("checkout", limit=3)
    )


async def test_equally_new_ones_have_an_order_too(store: Store) -> None:
    """A hundred runs of the same time are listed once each, at any page size."""
    for number in range(100, 200):
        await store.create_run(new_run(number, created_at=NOW), None)
    expected = [f"run_{number}" for number in range(199, 99, -1)]
    for limit in (1, 7, 100):
        assert expected == list(chain(*await _pages(store, RunFilter("checkout", limit=limit))))


async def test_new_runs_do_not_move_later_pages(store: Store) -> None:
    for number in range(4):
        await store.create_run(new_run(number), None)
    first = await listed(store, RunFilter("checkout", limit=2))
    await store.create_run(new_run(9), None)
    second = await listed(store, RunFilter("checkout", limit=2, before=(first[-1].created_at, first[-1].id)))
    assert ["run_3", "run_2", "run_1", "run_0"] == [run.id for run in first + second]


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (RunFilter("checkout"), [5, 4, 3, 2, 1, 0]),
        (RunFilter("checkout", status="queued"), [5, 4, 3]),
        (RunFilter("checkout", status="succeeded"), [2, 1, 0]),
        (RunFilter("checkout", workflow="odd"), [5, 3, 1]),
        (RunFilter("checkout", workflow="odd", status="succeeded"), [1]),
        (RunFilter("checkout", workflow="odd", status="queued", limit=1), [5]),
        (RunFilter("checkout", status=""), []),
        (RunFilter("checkout", workflow="none"), []),
    ],
)
async def test_filters_narrow_it(store: Store, wanted: RunFilter, expected: list[int]) -> None:
    for number in range(6):
        await store.create_run(new_run(number, workflow="odd" if number % 2 else "even"), None)
    for number in range(3):
        await store.finish(f"run_{number}", SAMPLE_FINAL_STATE)
    assert [f"run_{number}" for number in expected] == [run.id for run in await listed(store, wanted)]


@settings(max_examples=examples(30), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    times=st.lists(st.floats(0, 4e9) | st.integers(0, 3).map(float), max_size=12),
    limit=st.integers(1, 5),
)
async def test_whatever_the_times_every_run_is_listed_once(store: Store, times: list[float], limit: int) -> None:
    """Including times that differ by less than a microsecond."""
    client = f"client-{len(await listed(store, RunFilter('all', limit=1000)))}"  # a new one for each example
    await store.create_run(new_run(0, id=f"all-{client}", client="all"), None)
    runs = [
        new_run(0, id=f"{client}-{number}", client=client, created_at=created_at)
        for number, created_at in enumerate(times)
    ]
    for run in runs:
        await store.create_run(run, None)
    expected = [run.id for run in sorted(runs, key=lambda run: (run.created_at, run.id), reverse=True)]
    assert expected == list(chain(*await _pages(store, RunFilter(client, limit=limit))))
