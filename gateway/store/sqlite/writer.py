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
from typing import Any, TypeVar

from gateway.store.contract import StoreUnavailable
from gateway.store.sqlite.file import SQLITE_ERRORS, translate_error

T = TypeVar("T")

MAX_QUEUED = 10_000
"""Changes that may wait (backpressure); more are refused at once, because the disk is too slow."""

_MAX_BATCH = 1_000  # changes of one commit; bounds the wait of the first one


@dataclass(slots=True)
class _Job:
    """A change, the future of its caller, and the run that it concerns. It may run twice, so it must only use SQL."""

    change: Callable[[sqlite3.Connection], Any]
    future: asyncio.Future[Any]
    run_id: str | None


@dataclass(slots=True)
class _JobResult:
    """Outcome of a job: committed, or rolled back with an error."""

    job: _Job
    result: Any = None
    error: Exception | None = None


class _JobFailed(Exception):
    """One of the changes raised an exception, which is the cause."""


class SqliteWriter:
    """Executes changes from the event loop and resolves each once its commit is on the disk.

    `on_change` is called on the event loop with the run of each change, even if its caller was cancelled.
    `check_file` is called in the thread after each commit; it raises StoreUnavailable if the commit may be lost.
    """

    def __init__(
        self,
        db: sqlite3.Connection,
        on_change: Callable[[str], None],
        *,
        max_queued: int = MAX_QUEUED,
        check_file: Callable[[], None] = lambda: None,
    ) -> None:
        self._db = db
        self._on_change = on_change
        self._check_file = check_file
        self._max_queued = max_queued
        self._loop = asyncio.get_running_loop()
        self._incoming: list[_Job] = []  # of this iteration of the event loop; they are queued together
        self._pending_count = 0
        self._queue: SimpleQueue[list[_Job] | None] = SimpleQueue()  # None ends the thread
        self._thread = threading.Thread(target=self._run_thread, name="store-writer", daemon=True)
        self._thread.start()

    async def execute(self, change: Callable[[sqlite3.Connection], T], run_id: str | None = None) -> T:
        """Execute a change; it is durable when this method returns.

        `change` runs inside a transaction, in the writer thread. Raises StoreUnavailable, or the exception of `change`.
        """
        if self._pending_count >= self._max_queued:
            raise StoreUnavailable("too many changes wait for the disk")
        future: asyncio.Future[T] = self._loop.create_future()
        if not self._incoming:
            self._loop.call_soon(self._enqueue_incoming)
        self._incoming.append(_Job(change, future, run_id))
        self._pending_count += 1
        return await future

    async def close(self) -> None:
        """Commit the queued changes, and end the thread. No call of `execute` may follow."""
        self._enqueue_incoming()
        self._queue.put(None)
        await asyncio.to_thread(self._thread.join)

    def _enqueue_incoming(self) -> None:
        if self._incoming:  # else `close` has queued them
            self._queue.put(self._incoming)
            self._incoming = []

    def _resolve_jobs(self, results: Sequence[_JobResult]) -> None:
        self._pending_count -= len(results)
        for result in results:
            if result.job.run_id is not None:
                self._on_change(result.job.run_id)
            future = result.job.future
            if future.done():  # its caller was cancelled
                continue
            if result.error is None:
                future.set_result(result.result)
            else:
                future.set_exception(result.error)

    # The methods below run in the writer thread.

    def _run_thread(self) -> None:
        closing = False
        while not closing:
            jobs, closing = self._next_jobs()
            for first in range(0, len(jobs), _MAX_BATCH):
                results = self._commit_batch(jobs[first : first + _MAX_BATCH])
                with suppress(RuntimeError):  # the event loop is closed: no caller waits
                    self._loop.call_soon_threadsafe(self._resolve_jobs, results)

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

    def _commit_batch(self, jobs: Sequence[_Job]) -> list[_JobResult]:
        """Commit the jobs together, or one by one if one of them raises, so that the others succeed."""
        try:
            with self._transaction():
                results = [self._apply(job) for job in jobs]
            self._check_file()
        except _JobFailed as failed:
            if len(jobs) > 1:
                return [outcome for job in jobs for outcome in self._commit_batch([job])]
            return [_JobResult(jobs[0], error=_translate_cause(failed.__cause__))]
        except SQLITE_ERRORS as error:  # a failure of the disk, not of one job: no retry
            return [_JobResult(job, error=translate_error(error)) for job in jobs]
        except StoreUnavailable as error:
            return [_JobResult(job, error=type(error)(*error.args)) for job in jobs]
        return results

    def _apply(self, job: _Job) -> _JobResult:
        if job.future.cancelled():
            return _JobResult(job)
        try:
            return _JobResult(job, job.change(self._db))
        except Exception as error:
            raise _JobFailed from error

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
