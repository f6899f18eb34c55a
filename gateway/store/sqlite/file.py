"""SQLite database file: mode 0600, locked by one process, opened with a durable write-ahead log."""

from __future__ import annotations

import fcntl
import os
import sqlite3
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from gateway.store.contract import StoreReplaced, StoreUnavailable
from gateway.store.sqlite.schema import MIGRATIONS, migrate, require_compatible

_MINIMUM_VERSION = (3, 37)  # STRICT tables

# Has an effect only before the first table is created.
_AUTO_VACUUM = "PRAGMA auto_vacuum = INCREMENTAL"

_WRITER_PRAGMAS = (
    "PRAGMA synchronous = FULL",  # a commit that returned survives a power cut
    "PRAGMA foreign_keys = ON",
    "PRAGMA cache_size = -16000",  # kB
    "PRAGMA wal_autocheckpoint = 4000",  # pages: fewer checkpoints, as ids and keys are scattered
    "PRAGMA journal_size_limit = 67108864",  # bytes: the log is truncated after a burst
)

_REASONS = {
    sqlite3.SQLITE_FULL: "the disk is full",
    sqlite3.SQLITE_READONLY: "the file cannot be written",
    sqlite3.SQLITE_BUSY: "another program holds the file",
    sqlite3.SQLITE_LOCKED: "another program holds the file",
    sqlite3.SQLITE_IOERR: "the disk fails",
    sqlite3.SQLITE_CORRUPT: "the file is damaged",
    sqlite3.SQLITE_NOTADB: "the file belongs to another program",
    sqlite3.SQLITE_CANTOPEN: "the file cannot be opened",
    sqlite3.SQLITE_TOOBIG: "it is too large to be kept",
}

SQLITE_ERRORS = (sqlite3.Error, MemoryError)
"""Exceptions for failures of SQLite, the disk or the machine."""


def translate_error(error: sqlite3.Error | MemoryError) -> StoreUnavailable:
    """Return a StoreUnavailable with a fixed text; the text of SQLite may quote stored values."""
    code: int | None = getattr(error, "sqlite_errorcode", None)  # not every error is one of the library's
    return StoreUnavailable(_REASONS.get(-1 if code is None else code & 0xFF, "SQLite failed"))


@dataclass(frozen=True, slots=True)
class _FileIdentity:
    """Device and inode numbers of the database and its write-ahead log."""

    database: tuple[int, int]
    log: tuple[int, int]


class SqliteFile:
    """A database file and its lock file; the operating system releases the lock when the process ends.

    `busy_timeout`: seconds to wait while another program, such as a backup, locks the database.
    """

    def __init__(self, path: Path, *, busy_timeout: float) -> None:
        self._path = path
        self._log_path = path  # set with the resolved path, once for all commits
        self._busy_timeout = busy_timeout
        self._lock_descriptor: int | None = None
        self._identity: _FileIdentity | None = None

    def open(self) -> sqlite3.Connection:
        """Lock the file, create it if it does not exist, and return the only connection that writes.

        Raises StoreUnavailable with the path and a reason.
        """
        try:
            self._require_sqlite_version()
            self._acquire_lock()
            return self._open_database()
        except (OSError, StoreUnavailable, *SQLITE_ERRORS) as error:
            failure = self._error_with_path(error)
        self.release()
        raise failure  # outside of the handler, so that the original error is not its context

    def open_read_only(self) -> sqlite3.Connection:
        """Return a read-only connection. The writing connection must stay open as long as this one is in use."""
        uri = f"file:{quote(str(self._path))}?mode=ro"
        try:
            return self._connect_uri(uri)
        except SQLITE_ERRORS as error:
            failure = self._error_with_path(error)
        raise failure

    def require_same_file(self) -> None:
        """Raise StoreReplaced if the database or its log was removed, replaced or emptied since `open`.

        SQLite continues to write to a removed file, so a commit alone does not prove that the data survive the process.
        """
        if self._identify() != self._identity:
            raise StoreReplaced("the file was removed or replaced")

    def _identify(self) -> _FileIdentity | None:
        try:
            database, log = self._path.stat(), self._log_path.stat()
        except OSError:
            return None
        if not database.st_size:
            return None
        return _FileIdentity((database.st_dev, database.st_ino), (log.st_dev, log.st_ino))

    def release(self) -> None:
        """Release the lock. All connections must be closed before."""
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
        """Lock the database for this process.

        The lock is a separate file: closing another descriptor of the database would release the locks of SQLite
        (POSIX advisory locks).
        """
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._path = self._path.resolve()  # symbolic links to one file share its lock
        self._log_path = self._path.with_name(self._path.name + "-wal")
        self._lock_descriptor = os.open(self._path.with_name(self._path.name + ".lock"), os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(self._lock_descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StoreUnavailable("another process uses it: replicas need a redis:// store") from None
        os.close(os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600))  # SQLite would create it readable by other users

    def _connect_uri(self, uri: str) -> sqlite3.Connection:
        return sqlite3.connect(uri, uri=True, timeout=self._busy_timeout, isolation_level=None, check_same_thread=False)

    def _open_database(self) -> sqlite3.Connection:
        db = self._connect_uri(f"file:{quote(str(self._path))}?mode=rw")
        try:
            require_compatible(db)  # before the first change
            db.execute(_AUTO_VACUUM)
            if db.execute("PRAGMA journal_mode = WAL").fetchone() != ("wal",):
                raise StoreUnavailable("this file system does not support a write-ahead log")
            for pragma in _WRITER_PRAGMAS:
                db.execute(pragma)
            migrate(db)
            # The lock is held, so all leases belong to ended processes. Also checks that the file is writable.
            db.execute("BEGIN IMMEDIATE")
            db.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")  # unchanged, but written: creates the log
            db.execute("UPDATE runs INDEXED BY runs_unfinished SET leased_until_at = 0 WHERE phase < 3")
            db.execute("UPDATE bulk_replays SET leased_until_at = 0 WHERE state = 'running'")
            db.execute("COMMIT")
            self._identity = self._identify()
        except BaseException:
            db.close()
            raise
        return db
