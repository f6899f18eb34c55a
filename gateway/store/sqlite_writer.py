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
from gateway.store.sqlite_file import FAILURES, unavailable

T = TypeVar("T")

MOST_WAITING = 10_000
"""Changes that may wait; beyond that the disk is too slow, and new ones are refused at once."""

_MOST_TOGETHER = 1_000  # in one commit, so that the first does not wait for the last of very many


@dataclass(frozen=True, slots=True)
class _Job:
    """A change that somebody waits for, and the run that it is about. It may be tried twice, so it only uses SQL."""

    change: Callable[[sqlite3.Connection], Any]
    answer: asyncio.Future[Any]
    about: str | None


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What became of a job: its result is in the file, or nothing of it is."""

    job: _Job
    result: Any = None
    error: Exception | None = None


class _JobFailed(Exception):
    """One of the changes raised its cause."""


class Writer:
    """Takes changes from the event loop and answers each once the commit that holds it is on the disk.

    `changed` is told of each run that a change was about, on the event loop, whether or not its caller still waits.
    """

    def __init__(
        self, db: sqlite3.Connection, changed: Callable[[str], None], *, most_waiting: int = MOST_WAITING
    ) -> None:
        self._db = db
        self._changed = changed
        self._most_waiting = most_waiting
        self._loop = asyncio.get_running_loop()
        self._arrived: list[_Job] = []  # in this turn of the loop; they travel together
        self._waiting = 0
        self._bell = threading.Condition()  # guards what both threads touch: the queue and the end
        self._queue: list[_Job] = []
        self._ended = False
        self._thread = threading.Thread(target=self._work, name="store-writer", daemon=True)
        self._thread.start()

    async def run(self, change: Callable[[sqlite3.Connection], T], about: str | None = None) -> T:
        """Make a change; it is durable when this returns.

        `change` runs inside a transaction, in the writer's thread. Raises StoreUnavailable, or what `change` raised.
        """
        if self._waiting >= self._most_waiting:
            raise StoreUnavailable("too many changes wait for the disk")
        answer: asyncio.Future[T] = self._loop.create_future()
        if not self._arrived:
            self._loop.call_soon(self._send)
        self._arrived.append(_Job(change, answer, about))
        self._waiting += 1
        return await answer

    async def close(self) -> None:
        """Commit what waits, and end the thread. Nothing may be handed in any more."""
        self._send()
        with self._bell:
            self._ended = True
            self._bell.notify()
        await asyncio.to_thread(self._thread.join)

    def _send(self) -> None:
        with self._bell:
            self._queue += self._arrived
            self._bell.notify()
        self._arrived = []

    def _settle(self, outcomes: Sequence[_Outcome]) -> None:
        self._waiting -= len(outcomes)
        for outcome in outcomes:
            if outcome.job.about is not None:
                self._changed(outcome.job.about)
            answer = outcome.job.answer
            if answer.done():  # its caller was cancelled
                continue
            if outcome.error is None:
                answer.set_result(outcome.result)
            else:
                answer.set_exception(outcome.error)

    # From here on in the thread.

    def _work(self) -> None:
        while jobs := self._take():
            outcomes = self._commit(jobs)
            with suppress(RuntimeError):  # the loop is closed, and nobody waits
                self._loop.call_soon_threadsafe(self._settle, outcomes)

    def _take(self) -> list[_Job]:
        """Wait for jobs; none is the end."""
        with self._bell:
            self._bell.wait_for(lambda: self._queue or self._ended)
            jobs = self._queue[:_MOST_TOGETHER]
            del self._queue[:_MOST_TOGETHER]
        return jobs

    def _commit(self, jobs: Sequence[_Job]) -> list[_Outcome]:
        """Commit them together; where one of them fails, each for itself, so that nobody pays for another's mistake."""
        try:
            with self._transaction():
                return [self._done(job) for job in jobs]
        except _JobFailed as failed:
            if len(jobs) > 1:
                return [outcome for job in jobs for outcome in self._commit([job])]
            return [_Outcome(jobs[0], error=_translated(failed.__cause__))]
        except FAILURES as error:  # the disk failed, not one of them: to try again would take as long
            return [_Outcome(job, error=unavailable(error)) for job in jobs]

    def _done(self, job: _Job) -> _Outcome:
        if job.answer.cancelled():
            return _Outcome(job)
        try:
            return _Outcome(job, job.change(self._db))
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


def _translated(error: BaseException | None) -> Exception:
    if isinstance(error, FAILURES):
        return unavailable(error)
    return error if isinstance(error, Exception) else StoreUnavailable("it failed")
