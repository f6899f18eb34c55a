"""The threads that read the SQLite file: they wait for no writer, and no writer waits for them."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from typing import TypeVar

from gateway.store.contract import StoreUnavailable
from gateway.store.sqlite.file import SQLITE_ERRORS, translate_error

T = TypeVar("T")


class SqliteReaderPool:
    """Answers questions, each from what was committed when it is asked. So many may wait, and more are refused."""

    def __init__(self, connect: Callable[[], sqlite3.Connection], *, threads: int, max_queued: int) -> None:
        self._idle_connections: SimpleQueue[sqlite3.Connection] = SimpleQueue()
        for _ in range(threads):
            self._idle_connections.put(connect())
        self._executor = ThreadPoolExecutor(threads, "store-reader")
        self._max_queued = max_queued
        self._pending_count = 0

    async def execute(self, query: Callable[[sqlite3.Connection], T]) -> T:
        """Ask; raises StoreUnavailable where the file can not be read, or too many wait already."""
        if self._pending_count >= self._max_queued:
            raise StoreUnavailable("too many questions wait for the disk")
        self._pending_count += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._executor, self._execute_in_thread, query)
        finally:
            self._pending_count -= 1

    async def close(self) -> None:
        """Answer what was asked, and close the connections."""
        await asyncio.to_thread(self._executor.shutdown)
        while not self._idle_connections.empty():
            self._idle_connections.get().close()

    def _execute_in_thread(self, query: Callable[[sqlite3.Connection], T]) -> T:
        db = self._idle_connections.get()  # there are as many as threads
        try:
            return query(db)
        except SQLITE_ERRORS as error:
            failure = translate_error(error)
        finally:
            self._idle_connections.put(db)
        raise failure  # out here, without the error and what it quotes
