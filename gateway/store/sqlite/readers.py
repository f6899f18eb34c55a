"""Reader threads of the SQLite store. In write-ahead mode readers and the writer do not block each other."""

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
    """Connection pool for queries, each on a snapshot of the last commit. At most `max_queued` queries wait."""

    def __init__(self, connect: Callable[[], sqlite3.Connection], *, threads: int, max_queued: int) -> None:
        self._idle_connections: SimpleQueue[sqlite3.Connection] = SimpleQueue()
        for _ in range(threads):
            self._idle_connections.put(connect())
        self._executor = ThreadPoolExecutor(threads, "store-reader")
        self._max_queued = max_queued
        self._pending_count = 0

    async def execute(self, query: Callable[[sqlite3.Connection], T]) -> T:
        """Run a query; raises StoreUnavailable if the file cannot be read, or `max_queued` queries wait."""
        if self._pending_count >= self._max_queued:
            raise StoreUnavailable("too many queries wait for the disk")
        self._pending_count += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._executor, self._execute_in_thread, query)
        finally:
            self._pending_count -= 1

    async def close(self) -> None:
        """Complete the queries that wait, and close the connections."""
        await asyncio.to_thread(self._executor.shutdown)
        while not self._idle_connections.empty():
            self._idle_connections.get().close()

    def _execute_in_thread(self, query: Callable[[sqlite3.Connection], T]) -> T:
        db = self._idle_connections.get()  # one connection for each thread
        try:
            return query(db)
        except SQLITE_ERRORS as error:
            failure = translate_error(error)
        finally:
            self._idle_connections.put(db)
        raise failure  # outside of the handler, so that the original error is not its context
