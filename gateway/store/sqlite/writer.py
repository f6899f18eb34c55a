"""Writer thread of the SQLite store with group commit.

Changes that arrive during a commit share the next one. The cost of a durable write is the wait for the disk, and a
commit of a hundred changes waits no longer than a commit of one.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any, Protocol, TypeAlias, TypeVar

from gateway.store.contract import StoreUnavailable
from gateway.store.sqlite.file import SQLITE_ERRORS, translate_error

T = TypeVar("T")

MAX_QUEUED = 10_000
"""Changes that may wait (backpressure); more are refused at once, because the disk is too slow."""

_MAX_BATCH = 1_000  # changes of one commit; bounds the wait of the first one


_Job: TypeAlias = tuple[Callable[[sqlite3.Connection], Any], asyncio.Future[Any], str | None]
"""A change, the future of its caller, and the run that it concerns. It may run twice, so it must only use SQL."""


@dataclass(slots=True)
class _JobFailed:
    """Outcome of a job that was rolled back."""

    error: Exception


class _ChangeRaised(Exception):
    """One of the changes raised an exception, which is the cause."""


class BatchSummary(Protocol):
    """What the changes of a commit write together, at its end."""

    def begin(self) -> None:
        """Begin another transaction."""

    def write(self, db: sqlite3.Connection) -> None:
        """Write what is due at the end of the transaction."""


class SqliteWriter:
    """Executes changes from the event loop and resolves each once its commit is on the disk.

    `on_changes` is called on the event loop with the runs of the changes of a commit, also if a caller was cancelled.
    `summary` is what those of a commit write together. `check_file` is called in the thread after each commit; it
    raises StoreUnavailable if the commit may be lost. `failing`: whether the last change failed because of the disk.
    """

    def __init__(
        self,
        db: sqlite3.Connection,
        on_changes: Callable[[Sequence[str]], None],
        *,
        max_queued: int = MAX_QUEUED,
        summary: BatchSummary | None = None,
        check_file: Callable[[], None] = lambda: None,
    ) -> None:
        self._db = db
        self._on_changes = on_changes
        self._summary = summary
        self._check_file = check_file
        self._max_queued = max_queued
        self.failing = False
        self._loop = asyncio.get_running_loop()
        self._incoming: list[_Job] = []  # of this iteration of the event loop; they are queued together
        self._pending_count = 0
        self._queue: SimpleQueue[list[_Job] | None] = SimpleQueue()  # None ends the thread
        self._thread = threading.Thread(target=self._run_thread, name="store-writer", daemon=True)
        self._thread.start()

    def execute(self, change: Callable[[sqlite3.Connection], T], run_id: str | None = None) -> asyncio.Future[T]:
        """Execute a change; it is durable when the future has its result.

        `change` runs inside a transaction, in the writer thread. The future's exception is StoreUnavailable, or that of
        `change`. Raises StoreUnavailable if too many changes wait. (Not a coroutine, which would cost as much again.)
        """
        if self._pending_count >= self._max_queued:
            self.failing = True
            raise StoreUnavailable("too many changes wait for the disk")
        future: asyncio.Future[T] = self._loop.create_future()
        if not self._incoming:
            self._loop.call_soon(self._enqueue_incoming)
        self._incoming.append((change, future, run_id))
        self._pending_count += 1
        return future

    async def close(self) -> None:
        """Commit the queued changes, and end the thread. No call of `execute` may follow."""
        self._enqueue_incoming()
        self._queue.put(None)
        await asyncio.to_thread(self._thread.join)

    def _enqueue_incoming(self) -> None:
        if self._incoming:  # else `close` has queued them
            self._queue.put(self._incoming)
            self._incoming = []

    def _resolve_jobs(self, jobs: Sequence[_Job], outcomes: Sequence[Any]) -> None:
        """Pass the outcome of each job, a result or `_JobFailed`, to its caller."""
        self._pending_count -= len(jobs)
        self._on_changes([run_id for _, _, run_id in jobs if run_id is not None])
        self.failing = isinstance(outcomes[-1], _JobFailed) and isinstance(outcomes[-1].error, StoreUnavailable)
        for (_, future, _), outcome in zip(jobs, outcomes, strict=True):
            if future.done():  # its caller was cancelled
                continue
            if isinstance(outcome, _JobFailed):
                future.set_exception(outcome.error)
            else:
                future.set_result(outcome)

    # The methods below run in the writer thread.

    def _run_thread(self) -> None:
        closing = False
        while not closing:
            queued, closing = self._next_jobs()
            for first in range(0, len(queued), _MAX_BATCH):
                jobs = queued[first : first + _MAX_BATCH]
                outcomes = self._commit_batch(jobs)
                with suppress(RuntimeError):  # the event loop is closed: no caller waits
                    self._loop.call_soon_threadsafe(self._resolve_jobs, jobs, outcomes)

    def _next_jobs(self) -> tuple[list[_Job], bool]:
        """Wait for jobs; returns all that are queued, and whether they are the last ones."""
        jobs: list[_Job] = []
        incoming = self._queue.get()
        try:
            while incoming is not None:
                jobs += incoming
                incoming = self._queue.get_nowait()
        except Empty:
            return jobs, False
        return jobs, True

    def _commit_batch(self, jobs: Sequence[_Job]) -> list[Any]:
        """Commit the jobs together, or one by one if one of them raises, so that the others succeed.

        Returns the outcome of each: its result, or `_JobFailed`.
        """
        try:
            with self._transaction():
                results = self._apply(jobs)
            self._check_file()
        except _ChangeRaised as raised:
            if len(jobs) > 1:
                return [outcome for job in jobs for outcome in self._commit_batch([job])]
            return [_JobFailed(_translate_cause(raised.__cause__))]
        except SQLITE_ERRORS as error:  # a failure of the disk, not of one job: no retry
            return [_JobFailed(translate_error(error)) for _ in jobs]
        except StoreUnavailable as error:
            return [_JobFailed(type(error)(*error.args)) for _ in jobs]
        return results

    def _apply(self, jobs: Sequence[_Job]) -> list[Any]:
        """Return the result of each job; None for one whose caller was cancelled, which is not executed."""
        db, summary = self._db, self._summary
        try:
            if summary is not None:
                summary.begin()
            results = [None if future.cancelled() else change(db) for change, future, _ in jobs]
            if summary is not None:
                summary.write(db)
        except Exception as error:
            raise _ChangeRaised from error
        return results

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:  # after some errors SQLite has rolled it back already
                self._db.execute("ROLLBACK")
            raise


def _translate_cause(error: BaseException | None) -> Exception:
    if isinstance(error, SQLITE_ERRORS):
        return translate_error(error)
    return error if isinstance(error, Exception) else StoreUnavailable("it failed")
