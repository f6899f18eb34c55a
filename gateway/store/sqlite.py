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
from gateway.store import sqlite_callbacks, sqlite_runs, sqlite_upkeep
from gateway.store.changes import Changes
from gateway.store.contract import Claim, Delivery, Filter, Finish, Key, StoredRun, StoreUnavailable
from gateway.store.sqlite_file import SqliteFile
from gateway.store.sqlite_readers import Readers
from gateway.store.sqlite_writer import Writer

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Opened:
    db: sqlite3.Connection  # only the writer's thread uses it
    writer: Writer
    readers: Readers
    listers: Readers  # a list may take long, and short looks must not wait for it


class SqliteStore:
    """A `Store` in the file at `path`, which no other process can have at the same time.

    `patience` is how many seconds to wait while another program, such as a back-up, holds the file.
    """

    shared = False
    weakness = None

    def __init__(self, path: Path, clock: Clock, *, patience: float = 5.0) -> None:
        self._file = SqliteFile(path, patience=patience)
        self._changes = Changes(clock)
        self._opened: _Opened | None = None
        self._failing = False

    @property
    def failing(self) -> bool:
        """See `Store.failing`."""
        return self._failing

    async def open(self) -> None:
        """See `Store.open`."""
        db, readers, listers = await asyncio.to_thread(self._connect)
        self._opened = _Opened(db, Writer(db, self._changes.tell), readers, listers)

    async def close(self) -> None:
        """See `Store.close`."""
        opened, self._opened = self._opened, None
        if opened is not None:
            await opened.writer.close()
            await opened.readers.close()
            await opened.listers.close()
            await asyncio.to_thread(opened.db.close)  # the last one: it empties the log into the file
            self._file.release()

    async def ping(self) -> None:
        """See `Store.ping`."""
        await self._read(sqlite_upkeep.prove_readable)
        await self._write(sqlite_upkeep.prove_writable)

    async def begin(self, run: StoredRun, key: Key | None) -> Claim | None:
        """See `Store.begin`."""
        return await self._write(lambda db: sqlite_runs.begin(db, run, key))

    async def advance(self, run: StoredRun) -> bool:
        """See `Store.advance`."""
        return await self._write(lambda db: sqlite_runs.advance(db, run), run.id)

    async def unsent(self, run: StoredRun) -> bool:
        """See `Store.unsent`."""
        return await self._write(lambda db: sqlite_runs.unsent(db, run), run.id)

    async def finish(self, run_id: str, finish: Finish) -> bool:
        """See `Store.finish`."""
        return await self._write(lambda db: sqlite_runs.finish(db, run_id, finish), run_id)

    async def drop(self, run_id: str, *, owner: str) -> None:
        """See `Store.drop`."""
        await self._write(lambda db: sqlite_runs.drop(db, run_id, owner), run_id)

    async def run(self, run_id: str) -> StoredRun | None:
        """See `Store.run`."""
        return await self._read(lambda db: sqlite_runs.read_run(db, run_id))

    async def runs(self, filter: Filter) -> list[StoredRun]:  # noqa: A002 - the contract's word
        """See `Store.runs`."""
        return await self._required().listers.run(lambda db: sqlite_runs.read_runs(db, filter))

    async def claim(self, client: str, text: str) -> Claim | None:
        """See `Store.claim`."""
        return await self._read(lambda db: sqlite_runs.read_claim(db, client, text))

    async def renew(self, owner: str, until_at: float) -> None:
        """See `Store.renew`."""
        await self._write(lambda db: sqlite_runs.renew(db, owner, until_at))

    async def adopt(self, owner: str, *, now_at: float, until_at: float, limit: int, turn: int = 0) -> list[StoredRun]:
        """See `Store.adopt`."""
        change = partial(sqlite_runs.adopt, owner=owner, now_at=now_at, until_at=until_at, limit=limit, turn=turn)
        return await self._write(change)

    async def due(self, *, now_at: float, until_at: float, limit: int) -> list[Delivery]:
        """See `Store.due`."""
        return await self._write(partial(sqlite_callbacks.due, now_at=now_at, until_at=until_at, limit=limit))

    async def delivered(self, run_id: str, state: str) -> None:
        """See `Store.delivered`."""
        await self._write(lambda db: sqlite_callbacks.delivered(db, run_id, state), run_id)

    async def postpone(self, run_id: str, *, due_at: float) -> None:
        """See `Store.postpone`."""
        if not await self._write(lambda db: sqlite_callbacks.postpone(db, run_id, due_at)):
            raise KeyError(run_id)

    async def redeliver(self, run_id: str, *, now_at: float) -> bool:
        """See `Store.redeliver`."""
        return await self._write(lambda db: sqlite_callbacks.redeliver(db, run_id, now_at), run_id)

    async def called_back(self, state: str, *, limit: int, after: str = "") -> list[str]:
        """See `Store.called_back`."""
        question = partial(sqlite_callbacks.in_state, state=state, limit=limit, after=after)
        return await self._required().listers.run(question)

    async def purge(self, *, runs_before_at: float, keys_before_at: float) -> int:
        """See `Store.purge`. A transaction for each batch, so that others get their turn in between."""
        gone = 0
        while batch := await self._write(lambda db: sqlite_upkeep.purge(db, runs_before_at, keys_before_at)):
            gone += batch
        while await self._write(sqlite_upkeep.shrink):
            pass
        return gone

    async def tell(self, name: str) -> None:
        """See `Store.tell`."""
        self._required()
        self._changes.tell(name)

    async def secret(self, name: str, fresh: bytes) -> bytes:
        """See `Store.secret`."""
        return await self._write(lambda db: sqlite_runs.secret(db, name, fresh))

    def told(self, name: str) -> bool:
        """See `Store.told`."""
        return self._changes.told(name)

    async def wait(self, run_ids: Sequence[str], seconds: float) -> None:
        """See `Store.wait`."""
        self._required()
        await self._changes.wait(run_ids, seconds)

    def _connect(self) -> tuple[sqlite3.Connection, Readers, Readers]:
        db, connect = self._file.open(), self._file.open_to_read
        try:
            return db, Readers(connect, threads=2, most_waiting=10_000), Readers(connect, threads=1, most_waiting=200)
        except BaseException:
            db.close()
            self._file.release()
            raise

    async def _write(self, change: Callable[[sqlite3.Connection], T], about: str | None = None) -> T:
        try:
            answer = await self._required().writer.run(change, about)
        except StoreUnavailable:
            self._failing = True
            raise
        self._failing = False
        return answer

    async def _read(self, question: Callable[[sqlite3.Connection], T]) -> T:
        return await self._required().readers.run(question)

    def _required(self) -> _Opened:
        if self._opened is None:
            raise StoreUnavailable("the store is not open")
        return self._opened
