"""The threads that read the SQLite file: they wait for no writer, and no writer waits for them."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from typing import TypeVar

from gateway.store.contract import StoreUnavailable
from gateway.store.sqlite_file import FAILURES, unavailable

T = TypeVar("T")


class Readers:
    """Answers questions, each from what was committed when it is asked. So many may wait, and more are refused."""

    def __init__(self, connect: Callable[[], sqlite3.Connection], *, threads: int, most_waiting: int) -> None:
        self._free: SimpleQueue[sqlite3.Connection] = SimpleQueue()
        for _ in range(threads):
            self._free.put(connect())
        self._threads = ThreadPoolExecutor(threads, "store-reader")
        self._most_waiting = most_waiting
        self._waiting = 0

    async def run(self, question: Callable[[sqlite3.Connection], T]) -> T:
        """Ask; raises StoreUnavailable where the file can not be read, or too many wait already."""
        if self._waiting >= self._most_waiting:
            raise StoreUnavailable("too many questions wait for the disk")
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, self._ask, question)
        finally:
            self._waiting -= 1

    async def close(self) -> None:
        """Answer what was asked, and close the connections."""
        await asyncio.to_thread(self._threads.shutdown)
        while not self._free.empty():
            self._free.get().close()

    def _ask(self, question: Callable[[sqlite3.Connection], T]) -> T:
        db = self._free.get()  # there are as many as threads
        try:
            return question(db)
        except FAILURES as error:
            failure = unavailable(error)
        finally:
            self._free.put(db)
        raise failure  # out here, without the error and what it quotes
