"""The SQLite file stays as small as what it holds."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.clock import SystemClock
from gateway.store import sqlite_upkeep
from gateway.store.contract import Filter, Key
from gateway.store.sqlite import SqliteStore
from tests.store.contract import ANSWER, FINISH, NOW, RUN, a_run

MB = 1_000_000
SPARE = 4 * MB + MB  # free pages that stay, and what an empty store takes


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    made = SqliteStore(tmp_path / "store.db", SystemClock())
    await made.open()
    yield made
    await made.close()


async def fill(store: SqliteStore, numbers: range, *, size: int) -> None:
    """Begin and end a run for each number; each takes four times `size` bytes."""
    body = b"x" * size
    end = replace(FINISH, document=body, answer=replace(ANSWER, body=body), callback=body)
    for number in numbers:
        run = a_run(number, order=body)
        await store.begin(run, Key("checkout", run.id, b""))
        await store.finish(run.id, end)


async def size_on_disk(store: SqliteStore, path: Path) -> int:
    """Of the file, once the log has been emptied into it."""
    await store.close()
    found = await asyncio.to_thread(path.stat)
    await store.open()
    return found.st_size


async def test_the_file_shrinks_when_what_it_held_is_forgotten(store: SqliteStore, tmp_path: Path) -> None:
    """R43."""
    await fill(store, range(50), size=100_000)
    assert await size_on_disk(store, tmp_path / "store.db") > 14 * MB
    assert 100 == await store.purge(runs_before_at=NOW + 1e6, keys_before_at=NOW + 1e6)
    assert await size_on_disk(store, tmp_path / "store.db") < SPARE


async def test_the_file_stays_bounded_while_runs_come_and_go(store: SqliteStore, tmp_path: Path) -> None:
    """R43: ten times what is kept at once goes through it."""
    for first in range(0, 200, 20):
        await fill(store, range(first, first + 20), size=25_000)
        await store.purge(runs_before_at=NOW + 1e6, keys_before_at=NOW + 1e6)
    assert await size_on_disk(store, tmp_path / "store.db") < SPARE + 2 * MB


async def test_a_purge_lets_others_in_between(store: SqliteStore) -> None:
    """Nobody waits for more than a batch."""
    count = 2 * sqlite_upkeep._BATCH + 1
    keys = [Key("checkout", str(number), b"") for number in range(count)]
    await asyncio.gather(*(store.begin(a_run(number), key) for number, key in enumerate(keys)))
    purging = asyncio.create_task(store.purge(runs_before_at=0, keys_before_at=NOW + 1e6))
    await asyncio.sleep(0)
    await store.begin(a_run(count), None)
    assert not purging.done()
    assert count == await purging


async def test_nothing_of_a_forgotten_run_stays(store: SqliteStore) -> None:
    """Not its order, not its answer, not its callback."""
    await fill(store, range(3), size=10)
    await store.purge(runs_before_at=NOW + 1e6, keys_before_at=NOW + 1e6)
    await store.begin(a_run(9), None)
    await store.drop("run_9", owner=RUN.owner)
    assert store._opened is not None  # no method of the contract shows what is left over
    assert [0, 0, 0, 0] == await store._opened.readers.run(_rows)
    assert [] == await store.runs(Filter("checkout"))


def _rows(db: sqlite3.Connection) -> list[int]:
    tables = ("runs", "orders", "keys", "callbacks")
    return [int(db.execute(f"SELECT count(*) FROM {table}").fetchone()[0]) for table in tables]
