"""The store for one machine: a SQLite file, one writer that commits in groups, and readers beside it."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

from gateway.clock import Clock
from gateway.store.contract import (
    Delivery,
    FinalState,
    IdempotencyKey,
    IdempotencyRecord,
    RunFilter,
    StoredRun,
    StoreUnavailable,
)
from gateway.store.notifications import ChangeNotifier
from gateway.store.sqlite import callbacks, maintenance, runs
from gateway.store.sqlite.file import SqliteFile
from gateway.store.sqlite.readers import SqliteReaderPool
from gateway.store.sqlite.writer import SqliteWriter

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _OpenStore:
    db: sqlite3.Connection  # only the writer's thread uses it
    writer: SqliteWriter
    readers: SqliteReaderPool
    list_readers: SqliteReaderPool  # a list may take long, and short looks must not wait for it


class SqliteStore:
    """A `Store` in the file at `path`, which no other process can have at the same time.

    `patience` is how many seconds to wait while another program, such as a back-up, holds the file.
    """

    shared = False
    durability_warning = None

    def __init__(self, path: Path, clock: Clock, *, busy_timeout: float = 5.0) -> None:
        self._file = SqliteFile(path, busy_timeout=busy_timeout)
        self._notifier = ChangeNotifier(clock)
        self._open_store: _OpenStore | None = None
        self._failing = False

    @property
    def failing(self) -> bool:
        """See `Store.failing`."""
        return self._failing

    async def open(self) -> None:
        """See `Store.open`."""
        db, readers, list_readers = await asyncio.to_thread(self._connect)
        self._open_store = _OpenStore(db, SqliteWriter(db, self._notifier.notify), readers, list_readers)

    async def close(self) -> None:
        """See `Store.close`."""
        open_store, self._open_store = self._open_store, None
        if open_store is not None:
            await open_store.writer.close()
            await open_store.readers.close()
            await open_store.list_readers.close()
            await asyncio.to_thread(open_store.db.close)  # the last one: it empties the log into the file
            self._file.release()

    async def ping(self) -> None:
        """See `Store.ping`."""
        await self._read(maintenance.check_readable)
        await self._write(maintenance.check_writable)

    async def create_run(self, run: StoredRun, key: IdempotencyKey | None) -> IdempotencyRecord | None:
        """See `Store.begin`."""
        return await self._write(lambda db: runs.create_run(db, run, key))

    async def advance(self, run: StoredRun) -> bool:
        """See `Store.advance`."""
        return await self._write(lambda db: runs.advance(db, run), run.id)

    async def revert_to_queued(self, run: StoredRun) -> bool:
        """See `Store.unsent`."""
        return await self._write(lambda db: runs.revert_to_queued(db, run), run.id)

    async def finish(self, run_id: str, final_state: FinalState) -> bool:
        """See `Store.finish`."""
        return await self._write(lambda db: runs.finish(db, run_id, final_state), run_id)

    async def discard_run(self, run_id: str, *, owner: str) -> None:
        """See `Store.drop`."""
        await self._write(lambda db: runs.discard_run(db, run_id, owner), run_id)

    async def get_run(self, run_id: str) -> StoredRun | None:
        """See `Store.run`."""
        return await self._read(lambda db: runs.get_run(db, run_id))

    async def list_runs(self, run_filter: RunFilter) -> list[StoredRun]:
        """See `Store.runs`."""
        return await self._require_open().list_readers.execute(lambda db: runs.list_runs(db, run_filter))

    async def get_idempotency_record(self, client: str, text: str) -> IdempotencyRecord | None:
        """See `Store.claim`."""
        return await self._read(lambda db: runs.get_idempotency_record(db, client, text))

    async def renew_leases(self, owner: str, until_at: float) -> None:
        """See `Store.renew`."""
        await self._write(lambda db: runs.renew_leases(db, owner, until_at))

    async def adopt(
        self, owner: str, *, now_at: float, until_at: float, limit: int, batch_id: int = 0
    ) -> list[StoredRun]:
        """See `Store.adopt`."""
        change = partial(runs.adopt, owner=owner, now_at=now_at, until_at=until_at, limit=limit, batch_id=batch_id)
        return await self._write(change)

    async def take_due_callbacks(self, *, now_at: float, until_at: float, limit: int) -> list[Delivery]:
        """See `Store.due`."""
        return await self._write(partial(callbacks.take_due_callbacks, now_at=now_at, until_at=until_at, limit=limit))

    async def settle_callback(self, run_id: str, state: str) -> None:
        """See `Store.delivered`."""
        await self._write(lambda db: callbacks.settle_callback(db, run_id, state), run_id)

    async def postpone_callback(self, run_id: str, *, due_at: float) -> None:
        """See `Store.postpone`."""
        if not await self._write(lambda db: callbacks.postpone_callback(db, run_id, due_at)):
            raise KeyError(run_id)

    async def redeliver_callback(self, run_id: str, *, now_at: float) -> bool:
        """See `Store.redeliver`."""
        return await self._write(lambda db: callbacks.redeliver_callback(db, run_id, now_at), run_id)

    async def list_by_callback_state(self, state: str, *, limit: int, after: str = "") -> list[str]:
        """See `Store.called_back`."""
        query = partial(callbacks.list_by_callback_state, state=state, limit=limit, after=after)
        return await self._require_open().list_readers.execute(query)

    async def purge(self, *, runs_before_at: float, keys_before_at: float) -> int:
        """See `Store.purge`. A transaction for each batch, so that others get their turn in between."""
        deleted = 0
        while batch := await self._write(lambda db: maintenance.purge(db, runs_before_at, keys_before_at)):
            deleted += batch
        while await self._write(maintenance.release_free_pages):
            pass
        return deleted

    async def notify(self, name: str) -> None:
        """See `Store.tell`."""
        self._require_open()
        self._notifier.notify(name)

    async def get_or_create_secret(self, name: str, default: bytes) -> bytes:
        """See `Store.secret`."""
        return await self._write(lambda db: runs.get_or_create_secret(db, name, default))

    def recently_notified(self, name: str) -> bool:
        """See `Store.told`."""
        return self._notifier.recently_notified(name)

    async def wait_for_change(self, run_ids: Sequence[str], seconds: float) -> None:
        """See `Store.wait`."""
        self._require_open()
        await self._notifier.wait_for_change(run_ids, seconds)

    def _connect(self) -> tuple[sqlite3.Connection, SqliteReaderPool, SqliteReaderPool]:
        db, connect = self._file.open(), self._file.open_read_only
        try:
            return (
                db,
                SqliteReaderPool(connect, threads=2, max_queued=10_000),
                SqliteReaderPool(connect, threads=1, max_queued=200),
            )
        except BaseException:
            db.close()
            self._file.release()
            raise

    async def _write(self, change: Callable[[sqlite3.Connection], T], run_id: str | None = None) -> T:
        try:
            result = await self._require_open().writer.execute(change, run_id)
        except StoreUnavailable:
            self._failing = True
            raise
        self._failing = False
        return result

    async def _read(self, query: Callable[[sqlite3.Connection], T]) -> T:
        return await self._require_open().readers.execute(query)

    def _require_open(self) -> _OpenStore:
        if self._open_store is None:
            raise StoreUnavailable("the store is not open")
        return self._open_store
