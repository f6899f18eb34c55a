"""Maintenance of the SQLite file: purge and vacuum bound its size."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.clock import SystemClock
from gateway.store.history import HistoryEntry
from gateway.store.records import IdempotencyKey, Phase, StoredRun
from gateway.store.run_filter import RunFilter
from gateway.store.sqlite import history, maintenance
from gateway.store.sqlite.store import SqliteStore
from tests.store.samples import NOW, SAMPLE_FINAL_STATE, SAMPLE_RESPONSE, SAMPLE_RUN, listed, new_run

MB = 1_000_000
FREE_PAGES_KEPT_MB = 4 * MB + MB  # remaining free pages, and the size of an empty store


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    made = SqliteStore(tmp_path / "store.db", SystemClock())
    await made.open()
    yield made
    await made.close()


async def add_finished_runs(store: SqliteStore, numbers: range, *, size: int) -> None:
    """Create and finish a run for each number; each takes four times `size` bytes."""
    body = b"x" * size
    end = replace(SAMPLE_FINAL_STATE, document=body, response=replace(SAMPLE_RESPONSE, body=body), callback=body)
    for number in numbers:
        run = new_run(number, order=body)
        await store.create_run(run, IdempotencyKey("checkout", run.id, b""))
        await store.finish(run.id, end)


async def size_on_disk(store: SqliteStore, path: Path) -> int:
    """Return the size of the file after a checkpoint of the log."""
    await store.close()
    found = await asyncio.to_thread(path.stat)
    await store.open()
    return found.st_size


async def test_the_file_shrinks_after_a_purge(store: SqliteStore, tmp_path: Path) -> None:
    """R43."""
    await add_finished_runs(store, range(50), size=100_000)
    assert await size_on_disk(store, tmp_path / "store.db") > 14 * MB
    assert 100 == await store.purge(runs_before_at=NOW + 1e6, keys_before_at=NOW + 1e6)
    assert await size_on_disk(store, tmp_path / "store.db") < FREE_PAGES_KEPT_MB


async def test_the_file_stays_bounded_while_runs_come_and_go(store: SqliteStore, tmp_path: Path) -> None:
    """R43: with ten times as many runs as are kept at once."""
    for first in range(0, 200, 20):
        await add_finished_runs(store, range(first, first + 20), size=25_000)
        await store.purge(runs_before_at=NOW + 1e6, keys_before_at=NOW + 1e6)
    assert await size_on_disk(store, tmp_path / "store.db") < FREE_PAGES_KEPT_MB + 2 * MB


async def test_other_changes_run_between_the_batches_of_a_purge(store: SqliteStore) -> None:
    """Other operations wait for one batch at most."""
    count = 2 * maintenance._ROWS_PER_BATCH + 1
    keys = [IdempotencyKey("checkout", str(number), b"") for number in range(count)]
    await asyncio.gather(*(store.create_run(new_run(number), key) for number, key in enumerate(keys)))
    purging = asyncio.create_task(store.purge(runs_before_at=0, keys_before_at=NOW + 1e6))
    await asyncio.sleep(0)
    await store.create_run(new_run(count), None)
    assert not purging.done()
    assert count == await purging


async def test_other_changes_run_between_the_batches_of_the_history(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Runs are recorded and deleted some hundred at a time; here three, so that there are many batches."""
    monkeypatch.setattr(history, "ROWS_PER_BATCH", 3)
    count = 200 * history.ROWS_PER_BATCH + 1
    entries = [HistoryEntry(_recorded(number), ("a",)) for number in range(count)]
    recording = asyncio.create_task(store.add_history(entries))
    await asyncio.sleep(0)
    await store.create_run(new_run(count), None)
    assert not recording.done()
    await recording
    purging = asyncio.create_task(store.purge_history(before_at=0, most=1))
    while len(await listed(store, RunFilter(None, limit=count + 1))) > count:
        await asyncio.sleep(0)
    await store.create_run(new_run(count + 1), None)
    assert not purging.done()
    assert count - 1 == await purging
    left = [f"run_{number}" for number in (count + 1, count, count - 1)]
    assert left == [run.id for run in await listed(store, RunFilter(None))]


async def test_entries_with_one_id_are_recorded_once(store: SqliteStore) -> None:
    """The tags of the second one are ignored too."""
    entries = [HistoryEntry(_recorded(number), (tag,)) for number, tag in ((1, "a"), (1, "b"), (2, "a"))]
    await store.add_history(entries)
    await store.add_history([HistoryEntry(_recorded(2), ("b",)), HistoryEntry(_recorded(3), ("b",))])
    for tag, expected in (("a", ["run_2", "run_1"]), ("b", ["run_3"])):
        assert expected == [run.id for run in await listed(store, RunFilter(None, tags=(tag,)))]


async def test_the_file_shrinks_after_a_purge_of_the_history(store: SqliteStore, tmp_path: Path) -> None:
    await store.add_history([HistoryEntry(_recorded(number), (), b"x" * 30_000) for number in range(400)])
    assert await size_on_disk(store, tmp_path / "store.db") > 12 * MB
    assert 399 == await store.purge_history(before_at=0, most=1)
    assert await size_on_disk(store, tmp_path / "store.db") < FREE_PAGES_KEPT_MB


def _recorded(number: int) -> StoredRun:
    """Return a run that was not durable and has ended."""
    ended = {"order": b"", "owner": "", "phase": Phase.DONE, "status": "succeeded", "durable": False}
    return new_run(number, finished_at=NOW + number, **ended)


async def test_nothing_of_a_purged_run_stays(store: SqliteStore) -> None:
    """Neither order, response nor callback."""
    await add_finished_runs(store, range(3), size=10)
    await store.purge(runs_before_at=NOW + 1e6, keys_before_at=NOW + 1e6)
    await store.create_run(new_run(9), None)
    await store.discard_run("run_9", owner=SAMPLE_RUN.owner)
    assert store._open_store is not None  # the contract has no method to list remaining rows
    assert [0, 0, 0, 0] == await store._open_store.readers.execute(_rows)
    assert [] == await listed(store, RunFilter("checkout"))


def _rows(db: sqlite3.Connection) -> list[int]:
    tables = ("runs", "orders", "keys", "callbacks")
    return [int(db.execute(f"SELECT count(*) FROM {table}").fetchone()[0]) for table in tables]


async def test_daily_usage_is_kept_until_its_day_is_over(store: SqliteStore) -> None:
    await store.set_daily_usage("one", (2, NOW + 60))
    await store.set_daily_usage("one", (3, NOW + 60))
    await store.set_daily_usage("two", (1, NOW - 1))
    await store.close()
    await store.open()
    assert {"one": (3, NOW + 60), "two": (1, NOW - 1)} == await store.get_daily_usage()
    await store.purge(runs_before_at=NOW, keys_before_at=NOW)
    assert {"one": (3, NOW + 60)} == await store.get_daily_usage()
