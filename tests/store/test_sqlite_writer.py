"""One thread writes for all: answers come after the commit, mistakes stay with whose they are."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from pathlib import Path

import pytest

from gateway.store.contract import StoreUnavailable
from gateway.store.sqlite_writer import Writer

Change = Callable[[sqlite3.Connection], int]


class Desk:
    """A writer to a table of numbers, and somebody else who looks at it."""

    def __init__(self, path: Path, *, most_waiting: int) -> None:
        self.db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=0.05)
        self.db.execute("PRAGMA journal_mode = WAL")
        self.db.execute("CREATE TABLE numbers (number INTEGER UNIQUE)")
        self.other = sqlite3.connect(path, isolation_level=None)
        self.changed: list[str] = []
        self.writer = Writer(self.db, self.changed.append, most_waiting=most_waiting)

    def seen(self) -> list[int]:
        """What was committed."""
        return [number for (number,) in self.other.execute("SELECT number FROM numbers ORDER BY number")]


def add(*numbers: int) -> Change:
    """Add these, one after the other, and return how many."""

    def change(db: sqlite3.Connection) -> int:
        for number in numbers:
            db.execute("INSERT INTO numbers VALUES (?)", (number,))
        return len(numbers)

    return change


def hold_until(released: threading.Event) -> Change:
    """A disk that takes its time."""

    def change(_db: sqlite3.Connection) -> int:
        assert released.wait(10)
        return 0

    return change


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    made = Desk(tmp_path / "numbers.db", most_waiting=5)
    with closing(made.db), closing(made.other):
        yield made
        await made.writer.close()


async def test_who_is_answered_is_committed(desk: Desk) -> None:
    for number in range(20):
        assert 1 == await desk.writer.run(add(number))
        assert number in desk.seen()


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        (add(7, 1), StoreUnavailable),  # 1 is there already
        (lambda db: db.execute("SELECT * FROM nowhere").rowcount, StoreUnavailable),
        (lambda db: add(7)(db) // 0, ZeroDivisionError),
        (add(7, 1 << 70), OverflowError),
    ],
)
async def test_ones_mistake_is_its_own(desk: Desk, wrong: Change, expected: type[Exception]) -> None:
    """Nothing of it is kept, and those who were to be committed with it are; whether they came before it or after."""
    await desk.writer.run(add(1))
    results = await asyncio.gather(
        desk.writer.run(add(2)), desk.writer.run(wrong), desk.writer.run(add(3)), return_exceptions=True
    )
    assert [1, expected, 1] == [type(result) if isinstance(result, Exception) else result for result in results]
    assert [1, 2, 3] == desk.seen()


async def test_more_than_it_can_take_is_refused_at_once(desk: Desk) -> None:
    """R54: and when the disk is back, it goes on."""
    released = threading.Event()
    held = asyncio.create_task(desk.writer.run(hold_until(released)))
    await asyncio.sleep(0)
    waiting = [asyncio.create_task(desk.writer.run(add(number))) for number in range(4)]
    await asyncio.sleep(0)
    with pytest.raises(StoreUnavailable, match="too many"):
        await desk.writer.run(add(9))
    released.set()
    assert [0, 1, 1, 1, 1] == await asyncio.gather(held, *waiting)
    assert 1 == await desk.writer.run(add(9))
    assert [0, 1, 2, 3, 9] == desk.seen()


async def test_what_nobody_waits_for_any_more_makes_room(desk: Desk) -> None:
    """A change whose caller left before its turn is not made, and is no longer counted."""
    released = threading.Event()
    held = asyncio.create_task(desk.writer.run(hold_until(released)))
    await asyncio.sleep(0)
    left = [asyncio.create_task(desk.writer.run(add(number))) for number in range(4)]
    await asyncio.sleep(0)
    for task in left:
        task.cancel()
    released.set()
    await asyncio.gather(held, *left, return_exceptions=True)
    assert [1] * 5 == await asyncio.gather(*(desk.writer.run(add(number)) for number in range(10, 15)))
    assert [10, 11, 12, 13, 14] == desk.seen()


async def test_who_is_concerned_is_told_after_the_commit(desk: Desk) -> None:
    """Also where the caller left while it was under way."""
    started, released = threading.Event(), threading.Event()

    def slow(db: sqlite3.Connection) -> int:
        started.set()
        assert released.wait(10)
        return add(1)(db)

    leaving = asyncio.create_task(desk.writer.run(slow, "run_1"))
    await asyncio.to_thread(started.wait, 10)
    leaving.cancel()
    assert [] == desk.changed
    released.set()
    await desk.writer.run(add(2))
    assert (["run_1"], [1, 2]) == (desk.changed, desk.seen())


async def test_a_disk_that_fails_refuses_all_who_wait_together(desk: Desk) -> None:
    """Once, not one after the other: each would wait as long again."""
    desk.other.execute("BEGIN IMMEDIATE")
    statements: list[str] = []
    desk.db.set_trace_callback(statements.append)
    results = await asyncio.gather(*(desk.writer.run(add(number)) for number in range(5)), return_exceptions=True)
    desk.other.execute("ROLLBACK")
    assert ["another program holds the file"] * 5 == [str(result) for result in results]
    assert (["BEGIN IMMEDIATE"], []) == (statements, desk.seen())
    assert 1 == await desk.writer.run(add(1))


async def test_what_waits_when_it_closes_is_committed(tmp_path: Path) -> None:
    desk = Desk(tmp_path / "numbers.db", most_waiting=5000)
    with closing(desk.db), closing(desk.other):
        waiting = [asyncio.create_task(desk.writer.run(add(number))) for number in range(3000)]
        await asyncio.sleep(0)
        await desk.writer.close()
        assert [1] * 3000 == await asyncio.gather(*waiting)
        assert list(range(3000)) == desk.seen()
