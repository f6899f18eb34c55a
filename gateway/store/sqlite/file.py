"""The file of the SQLite store: made so that only its owner reads it, held by one process, opened for durability."""

from __future__ import annotations

import fcntl
import os
import sqlite3
from pathlib import Path
from urllib.parse import quote

from gateway.store.contract import StoreUnavailable
from gateway.store.sqlite.schema import migrate, require_compatible

_MINIMUM_VERSION = (3, 37)  # the first with STRICT tables

# Before the first table, or it has no effect.
_AUTO_VACUUM = "PRAGMA auto_vacuum = INCREMENTAL"

_WRITER_PRAGMAS = (
    "PRAGMA synchronous = FULL",  # a commit that returned survives a power cut
    "PRAGMA foreign_keys = ON",
    "PRAGMA cache_size = -16000",  # kB
    "PRAGMA wal_autocheckpoint = 4000",  # pages: rarer than by default, as ids and keys are scattered over the file
    "PRAGMA journal_size_limit = 67108864",  # bytes: after a burst the log shrinks again
)

_REASONS = {
    sqlite3.SQLITE_FULL: "the disk is full",
    sqlite3.SQLITE_READONLY: "the file can not be written",
    sqlite3.SQLITE_BUSY: "another program holds the file",
    sqlite3.SQLITE_LOCKED: "another program holds the file",
    sqlite3.SQLITE_IOERR: "the disk fails",
    sqlite3.SQLITE_CORRUPT: "the file is damaged",
    sqlite3.SQLITE_NOTADB: "the file belongs to another program",
    sqlite3.SQLITE_CANTOPEN: "the file can not be opened",
    sqlite3.SQLITE_TOOBIG: "it is too large to be kept",
}

SQLITE_ERRORS = (sqlite3.Error, MemoryError)
"""What SQLite raises where it, the disk or the machine fails."""


def translate_error(error: sqlite3.Error | MemoryError) -> StoreUnavailable:
    """Say what happened in our words: SQLite's may quote what was to be written."""
    code: int | None = getattr(error, "sqlite_errorcode", None)  # not every error is one of the library's
    return StoreUnavailable(_REASONS.get(-1 if code is None else code & 0xFF, "SQLite failed"))


class SqliteFile:
    """A path, and the lock beside it, which ends with the process, however that ends.

    `patience` is how many seconds to wait while another program, such as a back-up, holds the file.
    """

    def __init__(self, path: Path, *, busy_timeout: float) -> None:
        self._path = path
        self._busy_timeout = busy_timeout
        self._lock_descriptor: int | None = None

    def open(self) -> sqlite3.Connection:
        """Take the file, make it where there is none, and return the one connection that writes.

        Raises StoreUnavailable, with the path and a reason.
        """
        try:
            self._require_sqlite_version()
            self._acquire_lock()
            return self._open_database()
        except (OSError, StoreUnavailable, *SQLITE_ERRORS) as error:
            failure = self._error_with_path(error)
        self.release()
        raise failure  # out here, without the error and what it quotes

    def open_read_only(self) -> sqlite3.Connection:
        """Return a connection that can not write. The writing one has to be open as long as this is."""
        uri = f"file:{quote(str(self._path))}?mode=ro"
        try:
            return self._connect_uri(uri)
        except SQLITE_ERRORS as error:
            failure = self._error_with_path(error)
        raise failure

    def release(self) -> None:
        """Leave the file to others. Its connections are closed by then."""
        if self._lock_descriptor is not None:
            os.close(self._lock_descriptor)
        self._lock_descriptor = None

    def _error_with_path(self, error: OSError | StoreUnavailable | sqlite3.Error | MemoryError) -> StoreUnavailable:
        if isinstance(error, OSError):
            reason = (error.strerror or "it failed").lower()
        else:
            reason = str(error if isinstance(error, StoreUnavailable) else translate_error(error))
        return StoreUnavailable(f"{self._path}: {reason}")

    @staticmethod
    def _require_sqlite_version() -> None:
        if sqlite3.sqlite_version_info < _MINIMUM_VERSION:
            raise StoreUnavailable(f"SQLite 3.37 or newer is needed, and this is {sqlite3.sqlite_version}")

    def _acquire_lock(self) -> None:
        """Become the only process with this file.

        The lock is a file of its own: closing another descriptor of SQLite's file would end SQLite's own locks.
        """
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._path = self._path.resolve()  # one file, one lock, whatever links lead there
        self._lock_descriptor = os.open(self._path.with_name(self._path.name + ".lock"), os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(self._lock_descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StoreUnavailable("another process uses it: replicas need a redis:// store") from None
        os.close(os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600))  # SQLite would make it readable for others

    def _connect_uri(self, uri: str) -> sqlite3.Connection:
        return sqlite3.connect(uri, uri=True, timeout=self._busy_timeout, isolation_level=None, check_same_thread=False)

    def _open_database(self) -> sqlite3.Connection:
        db = self._connect_uri(f"file:{quote(str(self._path))}?mode=rw")
        try:
            require_compatible(db)  # before anything is changed
            db.execute(_AUTO_VACUUM)
            if db.execute("PRAGMA journal_mode = WAL").fetchone() != ("wal",):
                raise StoreUnavailable("this file system can not hold a write-ahead log")
            for pragma in _WRITER_PRAGMAS:
                db.execute(pragma)
            migrate(db)
            # Only a dead process can have left leases, as we hold the lock; it also proves that we can write.
            db.execute("BEGIN IMMEDIATE")
            db.execute("UPDATE runs SET leased_until_at = 0 WHERE phase < 3")
            db.execute("COMMIT")
        except BaseException:
            db.close()
            raise
        return db
