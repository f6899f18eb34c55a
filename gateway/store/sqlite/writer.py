"""The one thread that writes to the SQLite file: what came while it committed goes into the next commit, together.

Waiting for the disk is what a durable write costs, and a commit of a hundred changes waits no longer than that of one.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, TypeVar

from gateway.store.contract import StoreUnavailable
from gateway.store.sqlite.file import SQLITE_ERRORS, translate_error

T = TypeVar("T")

MAX_QUEUED = 10_000
"""Changes that may wait; beyond that the disk is too slow, and new ones are refused at once."""

_MAX_BATCH = 1_000  # in one commit, so that the first does not wait for the last of very many


@dataclass(frozen=True, slots=True)
class _Job:
    """A change that somebody waits for, and the run that it is about. It may be tried twice, so it only uses SQL."""

    change: Callable[[sqlite3.Connection], Any]
    future: asyncio.Future[Any]
    run_id: str | None


@dataclass(frozen=True, slots=True)
class _JobResult:
    """What became of a job: its result is in the file, or nothing of it is."""

    job: _Job
    result: Any = None
    error: Exception | None = None


class _JobFailed(Exception):
    """One of the changes raised its cause."""


class SqliteWriter:
    """Takes changes from the event loop and answers each once the commit that holds it is on the disk.

    `changed` is told of each run that a change was about, on the event loop, whether or not its caller still waits.
    """

    def __init__(
        self, db: sqlite3.Connection, on_change: Callable[[str], None], *, max_queued: int = MAX_QUEUED
    ) -> None:
        self._db = db
        self._on_change = on_change
        self._max_queued = max_queued
        self._loop = asyncio.get_running_loop()
        self._incoming: list[_Job] = []  # in this turn of the loop; they travel together
        self._pending_count = 0
        self._condition = threading.Condition()  # guards what both threads touch: the queue and the end
        self._queue: list[_Job] = []
        self._closing = False
        self._thread = threading.Thread(target=self._run_thread, name="store-writer", daemon=True)
        self._thread.start()

    async def execute(self, change: Callable[[sqlite3.Connection], T], run_id: str | None = None) -> T:
        """Make a change; it is durable when this returns.

        `change` runs inside a transaction, in the writer's thread. Raises StoreUnavailable, or what `change` raised.
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
        """Commit what waits, and end the thread. Nothing may be handed in any more."""
        self._enqueue_incoming()
        with self._condition:
            self._closing = True
            self._condition.notify()
        await asyncio.to_thread(self._thread.join)

    def _enqueue_incoming(self) -> None:
        with self._condition:
            self._queue += self._incoming
            self._condition.notify()
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

    # From here on in the thread.

    def _run_thread(self) -> None:
        while jobs := self._next_batch():
            results = self._commit_batch(jobs)
            with suppress(RuntimeError):  # the loop is closed, and nobody waits
                self._loop.call_soon_threadsafe(self._resolve_jobs, results)

    def _next_batch(self) -> list[_Job]:
        """Wait for jobs; none is the end."""
        with self._condition:
            self._condition.wait_for(lambda: self._queue or self._closing)
            jobs = self._queue[:_MAX_BATCH]
            del self._queue[:_MAX_BATCH]
        return jobs

    def _commit_batch(self, jobs: Sequence[_Job]) -> list[_JobResult]:
        """Commit them together; where one of them fails, each for itself, so that nobody pays for another's mistake."""
        try:
            with self._transaction():
                return [self._apply(job) for job in jobs]
        except _JobFailed as failed:
            if len(jobs) > 1:
                return [outcome for job in jobs for outcome in self._commit_batch([job])]
            return [_JobResult(jobs[0], error=_translate_cause(failed.__cause__))]
        except SQLITE_ERRORS as error:  # the disk failed, not one of them: to try again would take as long
            return [_JobResult(job, error=translate_error(error)) for job in jobs]

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
            if self._db.in_transaction:  # after some errors SQLite has ended it
                self._db.execute("ROLLBACK")
            raise


def _translate_cause(error: BaseException | None) -> Exception:
    if isinstance(error, SQLITE_ERRORS):
        return translate_error(error)
    return error if isinstance(error, Exception) else StoreUnavailable("it failed")
