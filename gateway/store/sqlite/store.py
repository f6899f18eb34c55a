"""Store for one machine: a SQLite file with one writer (group commit) and several readers (snapshots)."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from math import inf
from pathlib import Path
from typing import TypeVar

from typing_extensions import override

from gateway.clock import Clock
from gateway.store import success_segments
from gateway.store.announcements import LocalAnnouncements
from gateway.store.audit import AuditStore
from gateway.store.budgets import BudgetStore
from gateway.store.bulk_replay import BulkReplayStore
from gateway.store.client_key import ClientKeyStore
from gateway.store.contract import Store, StoreUnavailable
from gateway.store.history import HistoryEntry, SuccessRecord
from gateway.store.notifications import ChangeNotifier
from gateway.store.provider_override import ProviderOverride
from gateway.store.records import (
    CancelResult,
    Delivery,
    FinalState,
    IdempotencyKey,
    IdempotencyRecord,
    RunOverview,
    RunPage,
    StoredRun,
)
from gateway.store.run_filter import RunFilter
from gateway.store.sqlite import callbacks, history, maintenance, overrides, run_lists, runs
from gateway.store.sqlite.audit import SqliteAudit
from gateway.store.sqlite.budgets import SqliteBudgets
from gateway.store.sqlite.bulk_replays import SqliteBulkReplays
from gateway.store.sqlite.client_keys import SqliteClientKeys
from gateway.store.sqlite.file import SqliteFile
from gateway.store.sqlite.readers import SqliteReaderPool
from gateway.store.sqlite.usage import EndCounter, SqliteUsage
from gateway.store.sqlite.writer import SqliteWriter
from gateway.store.usage import UsageStore

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _OpenStore:
    db: sqlite3.Connection  # used by the writer thread only
    writer: SqliteWriter
    readers: SqliteReaderPool
    list_readers: SqliteReaderPool  # separate, as a list may take long and must not delay the reads of single runs


class SqliteStore(Store):
    """A `Store` in the file at `path`, which one process opens at a time.

    `busy_timeout`: seconds to wait while another program, such as a backup, locks the file.
    """

    shared = False
    durability_warning = None

    def __init__(self, path: Path, clock: Clock, *, busy_timeout: float = 5.0) -> None:
        self._file = SqliteFile(path, busy_timeout=busy_timeout)
        self._notifier = ChangeNotifier(clock)
        self.announcements = LocalAnnouncements()
        self._open_store: _OpenStore | None = None
        self._end_counter = EndCounter()
        self.bulk_replays: BulkReplayStore = SqliteBulkReplays(self._write, self._read)
        self.budgets: BudgetStore = SqliteBudgets(self._write, self._read)
        self.usage: UsageStore = SqliteUsage(self._write, self._read_list)
        self.client_keys: ClientKeyStore = SqliteClientKeys(self._write, self._read)
        self.audit: AuditStore = SqliteAudit(self._write, self._read_list)

    @property
    @override
    def failing(self) -> bool:
        return self._open_store is not None and self._open_store.writer.failing

    @override
    async def open(self) -> None:
        db, readers, list_readers = await asyncio.to_thread(self._connect)
        writer = SqliteWriter(
            db, self._notifier.notify_each, summary=self._end_counter, check_file=self._file.require_same_file
        )
        self._open_store = _OpenStore(db, writer, readers, list_readers)

    @override
    async def close(self) -> None:
        open_store, self._open_store = self._open_store, None
        if open_store is not None:
            await open_store.writer.close()
            await open_store.readers.close()
            await open_store.list_readers.close()
            await asyncio.to_thread(open_store.db.close)  # the last connection: SQLite copies the log into the file
            self._file.release()

    @override
    async def ping(self) -> None:
        await self._read(maintenance.check_readable)
        await self._write(maintenance.check_writable)

    @override
    def create_run(
        self, run: StoredRun, key: IdempotencyKey | None, tags: Sequence[str] = ()
    ) -> Awaitable[IdempotencyRecord | None]:
        return self._write(partial(runs.create_run, run=run, key=key, tags=tags))

    @override
    def advance(self, run: StoredRun, events: bytes = b"") -> Awaitable[bool]:
        return self._write(partial(runs.advance, run=run, events=events), run.id)

    @override
    async def revert_to_queued(self, run: StoredRun) -> bool:
        return await self._write(partial(runs.revert_to_queued, run=run), run.id)

    @override
    def finish(self, run_id: str, final_state: FinalState) -> Awaitable[bool]:
        return self._write(
            partial(runs.finish, run_id=run_id, final_state=final_state, counter=self._end_counter), run_id
        )

    @override
    async def revise(self, run_id: str, final_state: FinalState) -> bool:
        change = partial(runs.revise, run_id=run_id, final_state=final_state, counter=self._end_counter)
        return await self._write(change, run_id)

    @override
    async def cancel_queued(self, run_id: str, final_state: FinalState) -> CancelResult:
        change = partial(runs.cancel_queued, run_id=run_id, final_state=final_state, counter=self._end_counter)
        return await self._write(change, run_id)

    @override
    async def discard_run(self, run_id: str, *, owner: str) -> None:
        await self._write(lambda db: runs.discard_run(db, run_id, owner), run_id)

    @override
    async def get_run(self, run_id: str) -> StoredRun | None:
        return await self._read(lambda db: runs.get_run(db, run_id))

    @override
    async def get_overview(self, run_id: str) -> RunOverview | None:
        return await self._read(lambda db: runs.get_overview(db, run_id))

    @override
    async def get_document(self, run_id: str) -> bytes | None:
        return await self._read(lambda db: runs.get_document(db, run_id))

    @override
    async def list_runs(self, run_filter: RunFilter) -> RunPage:
        return await self._require_open().list_readers.execute(lambda db: run_lists.list_runs(db, run_filter))

    @override
    async def get_idempotency_record(self, client: str, text: str) -> IdempotencyRecord | None:
        return await self._read(lambda db: runs.get_idempotency_record(db, client, text))

    @override
    async def renew_leases(self, owner: str, until_at: float) -> None:
        await self._write(lambda db: runs.renew_leases(db, owner, until_at))

    @override
    async def adopt(
        self, owner: str, *, now_at: float, until_at: float, limit: int, batch_id: int = 0
    ) -> list[StoredRun]:
        change = partial(runs.adopt, owner=owner, now_at=now_at, until_at=until_at, limit=limit, batch_id=batch_id)
        return await self._write(change)

    @override
    async def take_due_callbacks(
        self, *, now_at: float, until_at: float, limit: int, latest_at: float = inf
    ) -> list[Delivery]:
        change = partial(
            callbacks.take_due_callbacks, now_at=now_at, until_at=until_at, limit=limit, latest_at=latest_at
        )
        return await self._write(change)

    @override
    async def load_callback(self, delivery: Delivery, *, until_at: float) -> bytes | None:
        return await self._write(lambda db: callbacks.load_callback(db, delivery, until_at))

    @override
    async def settle_callback(self, run_id: str, state: str, *, revision: int = 0, events: bytes = b"") -> None:
        await self._write(lambda db: callbacks.settle_callback(db, run_id, state, revision, events), run_id)

    @override
    async def postpone_callback(self, run_id: str, *, due_at: float, revision: int = 0, events: bytes = b"") -> None:
        if not await self._write(lambda db: callbacks.postpone_callback(db, run_id, due_at, revision, events)):
            raise KeyError(run_id)

    @override
    async def redeliver_callback(self, run_id: str, *, now_at: float) -> bool:
        return await self._write(lambda db: callbacks.redeliver_callback(db, run_id, now_at), run_id)

    @override
    async def list_by_callback_state(self, state: str, *, limit: int, after: str = "") -> list[str]:
        query = partial(callbacks.list_by_callback_state, state=state, limit=limit, after=after)
        return await self._require_open().list_readers.execute(query)

    @override
    async def purge(self, *, runs_before_at: float, keys_before_at: float) -> int:
        # One transaction for each batch, so that other changes can run in between.
        deleted = 0
        while batch := await self._write(lambda db: maintenance.purge(db, runs_before_at, keys_before_at)):
            deleted += batch
        await self._release_free_pages()
        return deleted

    @override
    async def add_history(self, entries: Sequence[HistoryEntry]) -> None:
        for batch in _batches(entries):
            await self._write(partial(history.add_history, entries=batch))

    @override
    async def add_successes(self, records: Sequence[SuccessRecord]) -> None:
        found, rest = success_segments.split(records)
        entries = [record.entry for record in rest]
        await self._write(partial(history.add_successes, added=found, entries=entries))

    @override
    async def purge_history(self, *, before_at: float, most: int) -> int:
        count = partial(history.count_surplus, before_at=before_at, most=most)
        surplus = await self._require_open().list_readers.execute(count)
        deleted = 0
        while deleted < surplus:
            batch = await self._write(partial(history.purge_oldest, most=surplus - deleted))
            if not batch:
                break
            deleted += batch
        await self._release_free_pages()
        return deleted

    @override
    async def purge_content(self, *, before_at: float) -> int:
        deleted = 0
        while batch := await self._write(partial(history.purge_content, before_at=before_at)):
            deleted += batch
        if deleted:
            await self._release_free_pages()
        return deleted

    @override
    async def get_timeline(self, run_id: str) -> bytes | None:
        return await self._read(lambda db: history.get_timeline(db, run_id))

    @override
    async def set_activities(self, owner: str, activities: Sequence[tuple[str, bytes]]) -> None:
        for batch in _batches(activities):
            await self._write(partial(history.set_activities, owner=owner, activities=batch))
            for run_id, _ in batch:
                self._notifier.notify(run_id)

    @override
    async def judge(self, run_id: str, judgement: bytes) -> bool:
        return await self._write(lambda db: history.judge(db, run_id, judgement))

    @override
    async def notify(self, name: str) -> None:
        self._require_open()
        self._notifier.notify(name)

    @override
    async def mark_collected(self, run_id: str) -> bool:
        del run_id
        return True

    @override
    async def get_or_create_secret(self, name: str, default: bytes) -> bytes:
        return await self._write(lambda db: runs.get_or_create_secret(db, name, default))

    @override
    async def set_override(self, override: ProviderOverride) -> None:
        await self._write(lambda db: overrides.set_override(db, override))

    @override
    async def remove_override(self, provider: str) -> None:
        await self._write(lambda db: overrides.remove_override(db, provider))

    @override
    async def list_overrides(self) -> list[ProviderOverride]:
        return await self._read(overrides.list_overrides)

    async def get_daily_usage(self) -> dict[str, tuple[int, float]]:
        """Return the daily usage of each client: requests, and the end of their day in seconds since 1970."""
        return await self._read(maintenance.get_daily_usage)

    async def set_daily_usage(self, client: str, usage: tuple[int, float]) -> None:
        """Store the daily usage of a client, in the same form."""
        await self._write(lambda db: maintenance.set_daily_usage(db, client, usage))

    @override
    def recently_notified(self, name: str) -> bool:
        return self._notifier.recently_notified(name)

    @override
    def recent_suffix(self, prefix: str) -> str | None:
        return self._notifier.recent_suffix(prefix)

    @override
    async def wait_for_change(self, run_ids: Sequence[str], seconds: float) -> None:
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

    def _write(self, change: Callable[[sqlite3.Connection], T], run_id: str | None = None) -> Awaitable[T]:
        return (self._open_store or self._require_open()).writer.execute(change, run_id)  # one call less while open

    async def _release_free_pages(self) -> None:
        while await self._write(maintenance.release_free_pages):
            pass

    async def _read(self, query: Callable[[sqlite3.Connection], T]) -> T:
        return await self._require_open().readers.execute(query)

    async def _read_list(self, query: Callable[[sqlite3.Connection], T]) -> T:
        return await self._require_open().list_readers.execute(query)

    def _require_open(self) -> _OpenStore:
        if self._open_store is None:
            raise StoreUnavailable("the store is not open")
        return self._open_store


def _batches(rows: Sequence[T]) -> Iterator[Sequence[T]]:
    """Split rows into those of one transaction each."""
    return (rows[first : first + history.ROWS_PER_BATCH] for first in range(0, len(rows), history.ROWS_PER_BATCH))
