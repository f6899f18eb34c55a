"""A process that keeps runs in a SQLite store as fast as it can, and says what it was promised, until it is killed.

    python -m tests.store.promises PATH NAME

Each line is a word and a number, printed once the call has returned: begun 7, sending 7, finished 7.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path

from gateway.clock import SystemClock
from gateway.store.contract import Answer, Finish, Key, Phase, StoredRun
from gateway.store.sqlite import SqliteStore
from tests.store.contract import FINISH, NOW, called_back

AT_ONCE = 20


def promised_run(name: str, number: int) -> StoredRun:
    """The run with this number of the process with this name; its lease ends in the far future."""
    return called_back(number, id=f"{name}-{number}", owner=name, leased_until_at=NOW + 1e6)


def promised_key(name: str, number: int) -> Key:
    """The key it was begun with."""
    return Key("checkout", f"{name}-{number}", b"f" * 32)


def promised_end(name: str, number: int) -> Finish:
    """How it ended."""
    return replace(FINISH, owner=name, answer=Answer(200, (), f"{name}-{number}".encode()))


def _say(word: str, number: int) -> None:
    sys.stdout.write(f"{word} {number}\n")
    sys.stdout.flush()


async def _keep_promises(store: SqliteStore, name: str, numbers: Iterator[int]) -> None:
    for number in numbers:
        run = promised_run(name, number)
        assert await store.begin(run, promised_key(name, number)) is None
        _say("begun", number)
        if number % 3:
            assert await store.advance(replace(run, phase=Phase.SENDING, status="running"))
            _say("sending", number)
        if number % 3 == 2:
            assert await store.finish(run.id, promised_end(name, number))
            _say("finished", number)


async def main(path: str, name: str) -> None:
    """Go on until the process is killed."""
    store = SqliteStore(Path(path), SystemClock())
    await store.open()
    numbers = count()
    await asyncio.gather(*(_keep_promises(store, name, numbers) for _ in range(AT_ONCE)))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2]))
