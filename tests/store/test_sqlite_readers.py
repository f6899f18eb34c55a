"""Reading waits for no writer, bounds who waits, and does not pass on SQLite's words."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.store.contract import StoreUnavailable
from gateway.store.sqlite_readers import Readers


@pytest.fixture
async def readers(tmp_path: Path) -> AsyncIterator[Readers]:
    """Two threads, and room for three questions in all."""
    made = Readers(lambda: sqlite3.connect(tmp_path / "some.db", check_same_thread=False), threads=2, most_waiting=3)
    yield made
    await made.close()


def one(db: sqlite3.Connection) -> int:
    """Ask for a number."""
    return int(db.execute("SELECT 1").fetchone()[0])


async def test_a_question_is_answered(readers: Readers) -> None:
    assert [1] * 3 == await asyncio.gather(*(readers.run(one) for _ in range(3)))


async def test_threads_answer_side_by_side(readers: Readers) -> None:
    """Each waits for the other: one alone would not get through."""
    both = threading.Barrier(2)

    def meet(db: sqlite3.Connection) -> int:
        both.wait(10)
        return one(db)

    assert [1, 1] == list(await asyncio.gather(readers.run(meet), readers.run(meet)))


async def test_more_questions_than_there_is_room_for_are_refused_at_once(readers: Readers) -> None:
    released = threading.Event()
    waiting = [asyncio.create_task(readers.run(lambda _: released.wait(10))) for _ in range(3)]
    await asyncio.sleep(0)
    with pytest.raises(StoreUnavailable, match="too many"):
        await readers.run(one)
    released.set()
    assert [True] * 3 == await asyncio.gather(*waiting)
    assert 1 == await readers.run(one)


async def test_who_leaves_makes_room(readers: Readers) -> None:
    released = threading.Event()
    waiting = [asyncio.create_task(readers.run(lambda _: released.wait(10))) for _ in range(3)]
    await asyncio.sleep(0)
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    asked = asyncio.create_task(readers.run(one))
    await asyncio.sleep(0)
    released.set()
    assert 1 == await asked


async def test_a_failure_is_told_in_our_words(readers: Readers) -> None:
    """And the connection is not lost with it."""
    for _ in range(3):
        with pytest.raises(StoreUnavailable) as failed:
            await readers.run(lambda db: db.execute("SELECT 'a prompt' FROM nowhere"))
        assert ("SQLite failed", None) == (str(failed.value), failed.value.__context__)
    assert 1 == await readers.run(one)
