"""Writer thread of the SQLite store: results after the commit, and errors of one change only for its caller."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from pathlib import Path

import pytest

from gateway.store.contract import StoreUnavailable
from gateway.store.sqlite.writer import SqliteWriter
from tests.support.waiting import wait_until

Change = Callable[[sqlite3.Connection], int]


class WriterHarness:
    """Writer to a table of numbers, and a second connection that reads it."""

    def __init__(self, path: Path, *, max_queued: int) -> None:
        self.db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=0.05)
        self.db.execute("PRAGMA journal_mode = WAL")
        self.db.execute("CREATE TABLE numbers (number INTEGER UNIQUE)")
        self.other_connection = sqlite3.connect(path, isolation_level=None)
        self.changed: list[str] = []
        self.writer = SqliteWriter(self.db, self.changed.extend, max_queued=max_queued)

    def committed(self) -> list[int]:
        """Return the committed numbers."""
        return [number for (number,) in self.other_connection.execute("SELECT number FROM numbers ORDER BY number")]


def add(*numbers: int) -> Change:
    """Add these numbers in sequence; returns their count."""

    def change(db: sqlite3.Connection) -> int:
        for number in numbers:
            db.execute("INSERT INTO numbers VALUES (?)", (number,))
        return len(numbers)

    return change


def block_until(released: threading.Event) -> Change:
    """Simulate a slow disk."""

    def change(_db: sqlite3.Connection) -> int:
        assert released.wait(10)
        return 0

    return change


@pytest.fixture
async def harness(tmp_path: Path) -> AsyncIterator[WriterHarness]:
    writer_harness = WriterHarness(tmp_path / "numbers.db", max_queued=5)
    with closing(writer_harness.db), closing(writer_harness.other_connection):
        yield writer_harness
        await writer_harness.writer.close()


async def test_a_change_is_committed_before_it_is_answered(harness: WriterHarness) -> None:
    for number in range(20):
        assert 1 == await harness.writer.execute(add(number))
        assert number in harness.committed()


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        (add(7, 1), StoreUnavailable),  # 1 is there already
        (lambda db: db.execute("SELECT * FROM nowhere").rowcount, StoreUnavailable),
        (lambda db: add(7)(db) // 0, ZeroDivisionError),
        (add(7, 1 << 70), OverflowError),
    ],
)
async def test_a_failing_change_fails_alone(harness: WriterHarness, wrong: Change, expected: type[Exception]) -> None:
    """A failing change is rolled back, and the other changes of its batch are committed."""
    await harness.writer.execute(add(1))
    results = await asyncio.gather(
        harness.writer.execute(add(2)),
        harness.writer.execute(wrong),
        harness.writer.execute(add(3)),
        return_exceptions=True,
    )
    assert [1, expected, 1] == [type(result) if isinstance(result, Exception) else result for result in results]
    assert [1, 2, 3] == harness.committed()


async def test_more_than_it_can_take_is_refused_at_once(harness: WriterHarness) -> None:
    """R54: until the disk is fast again."""
    released = threading.Event()
    held = asyncio.ensure_future(harness.writer.execute(block_until(released)))
    await asyncio.sleep(0)
    waiting = [asyncio.ensure_future(harness.writer.execute(add(number))) for number in range(4)]
    await asyncio.sleep(0)
    with pytest.raises(StoreUnavailable, match="too many"):
        await harness.writer.execute(add(9))
    released.set()
    assert [0, 1, 1, 1, 1] == await asyncio.gather(held, *waiting)
    assert 1 == await harness.writer.execute(add(9))
    assert [0, 1, 2, 3, 9] == harness.committed()


async def test_a_cancelled_change_frees_its_place(harness: WriterHarness) -> None:
    """A change that is cancelled before its batch is not executed, and not counted."""
    released = threading.Event()
    held = asyncio.ensure_future(harness.writer.execute(block_until(released)))
    await asyncio.sleep(0)
    left = [asyncio.ensure_future(harness.writer.execute(add(number))) for number in range(4)]
    await asyncio.sleep(0)
    for task in left:
        task.cancel()
    released.set()
    await asyncio.gather(held, *left, return_exceptions=True)
    await wait_until(lambda: not harness.writer._pending_count)
    assert [1] * 5 == await asyncio.gather(*(harness.writer.execute(add(number)) for number in range(10, 15)))
    assert [10, 11, 12, 13, 14] == harness.committed()


async def test_the_change_callback_runs_after_the_commit(harness: WriterHarness) -> None:
    """Also if the caller is cancelled during the commit."""
    started, released = threading.Event(), threading.Event()

    def slow(db: sqlite3.Connection) -> int:
        started.set()
        assert released.wait(10)
        return add(1)(db)

    leaving = asyncio.ensure_future(harness.writer.execute(slow, "run_1"))
    await asyncio.to_thread(started.wait, 10)
    leaving.cancel()
    assert [] == harness.changed
    released.set()
    await harness.writer.execute(add(2))
    assert (["run_1"], [1, 2]) == (harness.changed, harness.committed())


async def test_a_failing_disk_fails_the_whole_batch(harness: WriterHarness) -> None:
    """One attempt per batch: single retries would each wait for the timeout."""
    harness.other_connection.execute("BEGIN IMMEDIATE")
    statements: list[str] = []
    harness.db.set_trace_callback(statements.append)
    results = await asyncio.gather(
        *(harness.writer.execute(add(number)) for number in range(5)), return_exceptions=True
    )
    harness.other_connection.execute("ROLLBACK")
    assert ["another program holds the file"] * 5 == [str(result) for result in results]
    assert (["BEGIN IMMEDIATE"], []) == (statements, harness.committed())
    assert 1 == await harness.writer.execute(add(1))


async def test_queued_changes_are_committed_when_the_writer_closes(tmp_path: Path) -> None:
    desk = WriterHarness(tmp_path / "numbers.db", max_queued=5000)
    with closing(desk.db), closing(desk.other_connection):
        waiting = [asyncio.ensure_future(desk.writer.execute(add(number))) for number in range(3000)]
        await asyncio.sleep(0)
        await desk.writer.close()
        assert [1] * 3000 == await asyncio.gather(*waiting)
        assert list(range(3000)) == desk.committed()
