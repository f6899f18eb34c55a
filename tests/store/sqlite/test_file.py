"""File of the SQLite store: permissions, process lock, and errors with fixed texts."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from gateway.store.contract import StoreUnavailable
from gateway.store.sqlite.file import SqliteFile, translate_error
from tests.support.process import ROOT

NOBODY_UID = 65534


@contextmanager
def open_file(path: Path) -> Iterator[sqlite3.Connection]:
    """Open the file until the block ends."""
    file = SqliteFile(path, busy_timeout=0.05)
    with closing(file.open()) as db:
        yield db
    file.release()


def open_failure(path: Path) -> str:
    """Return the reason why the file cannot be opened."""
    file = SqliteFile(path, busy_timeout=0.05)
    with pytest.raises(StoreUnavailable) as refused:
        file.open()
    assert (None, None) == (refused.value.__cause__, refused.value.__context__)
    return str(refused.value)


def permissions_of(path: Path) -> int:
    """Return the permission bits."""
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def private_directory() -> Iterator[Path]:
    """Directory of this test, as an unprivileged user even if root runs the tests."""
    with tempfile.TemporaryDirectory() as name:
        if os.geteuid() == 0:
            os.chown(name, NOBODY_UID, NOBODY_UID)
            os.seteuid(NOBODY_UID)
        try:
            yield Path(name)
        finally:
            os.seteuid(os.getuid())


def test_created_files_are_for_their_owner_only(tmp_path: Path) -> None:
    """With any umask, because runs contain prompts."""
    before = os.umask(0)
    try:
        path = tmp_path / "var" / "store.db"
        with open_file(path):
            assert 0o700 == permissions_of(path.parent)
            names = {each.name: permissions_of(each) for each in path.parent.iterdir()}
    finally:
        os.umask(before)
    assert dict.fromkeys(("store.db", "store.db-wal", "store.db-shm", "store.db.lock"), 0o600) == names


def test_an_existing_file_keeps_its_permissions(tmp_path: Path) -> None:
    tmp_path.chmod(0o750)
    with open_file(tmp_path / "store.db"):
        assert 0o750 == permissions_of(tmp_path)


@pytest.mark.parametrize(
    ("pragma", "value"),
    [("journal_mode", "wal"), ("synchronous", 2), ("foreign_keys", 1), ("auto_vacuum", 2), ("busy_timeout", 50)],
)
def test_it_is_opened_for_durability(tmp_path: Path, pragma: str, value: object) -> None:
    """`synchronous` 2 is FULL, `auto_vacuum` 2 is INCREMENTAL."""
    with open_file(tmp_path / "store.db") as db:
        assert (value,) == db.execute(f"PRAGMA {pragma}").fetchone()


def test_a_read_only_connection_cannot_write(tmp_path: Path) -> None:
    """Also for names with characters that are special in a URL."""
    file = SqliteFile(tmp_path / "a?b#c%20d.db", busy_timeout=0.05)
    with closing(file.open()), closing(file.open_read_only()) as reader:
        assert [(0,)] == reader.execute("SELECT count(*) FROM runs").fetchall()
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            reader.execute("DELETE FROM runs")


@pytest.mark.process
def test_a_second_process_is_refused_until_the_first_is_gone(tmp_path: Path) -> None:
    """R45: two processes would both start the same runs."""
    path = tmp_path / "store.db"
    command = [sys.executable, "-m", "tests.store.crash_writer", str(path), "first"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as first:
        assert first.stdout is not None
        assert b"begun" in first.stdout.readline()
        assert f"{path}: another process uses it: replicas need a redis:// store" == open_failure(path)
        first.kill()
        first.stdout.read()
    with open_file(path) as db:
        assert db.execute("SELECT count(*) FROM runs").fetchone() > (0,)


def test_a_second_store_of_this_process_is_refused_and_disturbs_nothing(tmp_path: Path) -> None:
    """Also by another path to the same file."""
    first = SqliteFile(tmp_path / "store.db", busy_timeout=0.05)
    link = tmp_path / "link.db"
    link.symlink_to(tmp_path / "store.db")
    with closing(first.open()) as db:
        db.execute("BEGIN IMMEDIATE")
        assert "another process uses it" in open_failure(link)
        db.execute("COMMIT")
    first.release()
    with open_file(link) as db:
        assert [] == db.execute("SELECT * FROM runs").fetchall()


def test_a_failed_open_holds_no_lock(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    path.write_bytes(b"this is not a database, but it is long enough to be looked at" * 100)
    assert f"{path}: the file belongs to another program" == open_failure(path)
    path.unlink()
    with open_file(path) as db:
        assert [] == db.execute("SELECT * FROM runs").fetchall()


def test_a_file_that_cannot_be_written_is_refused(private_directory: Path) -> None:
    """R54."""
    path = private_directory / "store.db"
    with open_file(path):
        path.chmod(0o400)
    assert f"{path}: permission denied" == open_failure(path)


@pytest.mark.parametrize("name", ["store.db", "var/store.db"])
def test_a_directory_that_cannot_be_written_is_refused(private_directory: Path, name: str) -> None:
    """R54."""
    private_directory.chmod(0o500)
    assert f"{private_directory / name}: permission denied" == open_failure(private_directory / name)


def test_a_path_that_cannot_be_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert f"{tmp_path / 'file' / 'store.db'}: file exists" == open_failure(tmp_path / "file" / "store.db")
    (tmp_path / "directory").mkdir()
    assert f"{tmp_path / 'directory'}: is a directory" == open_failure(tmp_path / "directory")


def test_an_old_library_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 36, 0))
    assert "SQLite 3.37 or newer is needed" in open_failure(tmp_path / "store.db")


def test_no_error_text_of_sqlite_is_quoted() -> None:
    """The text of SQLite may quote stored values."""
    with closing(sqlite3.connect(":memory:")) as db, pytest.raises(sqlite3.Error) as wrong:
        db.execute("SELECT 'a prompt' FROM nowhere")
    assert "SQLite failed" == str(translate_error(wrong.value))
    assert "SQLite failed" == str(translate_error(sqlite3.ProgrammingError("a prompt")))
    assert "SQLite failed" == str(translate_error(MemoryError()))
