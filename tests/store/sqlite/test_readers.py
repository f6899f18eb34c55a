"""Readers of the SQLite store: no wait for the writer, a bounded queue, errors with fixed texts."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.store.contract import StoreUnavailable
from gateway.store.sqlite.readers import SqliteReaderPool


@pytest.fixture
async def readers(tmp_path: Path) -> AsyncIterator[SqliteReaderPool]:
    """Two reader threads, with a queue for three queries in total."""
    made = SqliteReaderPool(
        lambda: sqlite3.connect(tmp_path / "some.db", check_same_thread=False), threads=2, max_queued=3
    )
    yield made
    await made.close()


def query_number(db: sqlite3.Connection) -> int:
    """Query a number."""
    return int(db.execute("SELECT 1").fetchone()[0])


async def test_a_query_is_answered(readers: SqliteReaderPool) -> None:
    assert [1] * 3 == await asyncio.gather(*(readers.execute(query_number) for _ in range(3)))


async def test_threads_answer_side_by_side(readers: SqliteReaderPool) -> None:
    """Each query waits for the other, so a single thread would block."""
    both = threading.Barrier(2)

    def meet(db: sqlite3.Connection) -> int:
        both.wait(10)
        return query_number(db)

    assert [1, 1] == list(await asyncio.gather(readers.execute(meet), readers.execute(meet)))


async def test_queries_beyond_the_queue_limit_are_refused_at_once(readers: SqliteReaderPool) -> None:
    released = threading.Event()
    waiting = [asyncio.create_task(readers.execute(lambda _: released.wait(10))) for _ in range(3)]
    await asyncio.sleep(0)
    with pytest.raises(StoreUnavailable, match="too many"):
        await readers.execute(query_number)
    released.set()
    assert [True] * 3 == await asyncio.gather(*waiting)
    assert 1 == await readers.execute(query_number)


async def test_a_cancelled_query_frees_its_place(readers: SqliteReaderPool) -> None:
    released = threading.Event()
    waiting = [asyncio.create_task(readers.execute(lambda _: released.wait(10))) for _ in range(3)]
    await asyncio.sleep(0)
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    asked = asyncio.create_task(readers.execute(query_number))
    await asyncio.sleep(0)
    released.set()
    assert 1 == await asked


async def test_a_failure_does_not_quote_sqlite(readers: SqliteReaderPool) -> None:
    """The connection stays usable."""
    for _ in range(3):
        with pytest.raises(StoreUnavailable) as failed:
            await readers.execute(lambda db: db.execute("SELECT 'a prompt' FROM nowhere"))
        assert ("SQLite failed", None) == (str(failed.value), failed.value.__context__)
    assert 1 == await readers.execute(query_number)
