"""The file of the SQLite store: for its owner only, for one process only, and refused in our words."""

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
from gateway.store.sqlite_file import SqliteFile, unavailable
from tests.store.test_sqlite import ROOT

NOBODY = 65534


@contextmanager
def opened(path: Path) -> Iterator[sqlite3.Connection]:
    """Open it for a while."""
    file = SqliteFile(path, patience=0.05)
    with closing(file.open()) as db:
        yield db
    file.release()


def refusal(path: Path) -> str:
    """Why it can not be opened."""
    file = SqliteFile(path, patience=0.05)
    with pytest.raises(StoreUnavailable) as refused:
        file.open()
    assert (None, None) == (refused.value.__cause__, refused.value.__context__)
    return str(refused.value)


def mode(path: Path) -> int:
    """Who may do what with it."""
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def private() -> Iterator[Path]:
    """A directory of our own, in the shoes of somebody for whom permissions count, also where root runs the tests."""
    with tempfile.TemporaryDirectory() as name:
        if os.geteuid() == 0:
            os.chown(name, NOBODY, NOBODY)
            os.seteuid(NOBODY)
        try:
            yield Path(name)
        finally:
            os.seteuid(os.getuid())


def test_what_is_made_is_for_its_owner_only(tmp_path: Path) -> None:
    """Whatever the umask: runs hold prompts."""
    before = os.umask(0)
    try:
        path = tmp_path / "var" / "store.db"
        with opened(path):
            assert 0o700 == mode(path.parent)
            names = {each.name: mode(each) for each in path.parent.iterdir()}
    finally:
        os.umask(before)
    assert dict.fromkeys(("store.db", "store.db-wal", "store.db-shm", "store.db.lock"), 0o600) == names


def test_what_was_there_keeps_its_permissions(tmp_path: Path) -> None:
    tmp_path.chmod(0o750)
    with opened(tmp_path / "store.db"):
        assert 0o750 == mode(tmp_path)


@pytest.mark.parametrize(
    ("pragma", "value"),
    [("journal_mode", "wal"), ("synchronous", 2), ("foreign_keys", 1), ("auto_vacuum", 2), ("busy_timeout", 50)],
)
def test_it_is_opened_for_durability(tmp_path: Path, pragma: str, value: object) -> None:
    """`synchronous` 2 is FULL, `auto_vacuum` 2 is INCREMENTAL."""
    with opened(tmp_path / "store.db") as db:
        assert (value,) == db.execute(f"PRAGMA {pragma}").fetchone()


def test_who_reads_can_not_write(tmp_path: Path) -> None:
    """Names that mean something in a URL included."""
    file = SqliteFile(tmp_path / "a?b#c%20d.db", patience=0.05)
    with closing(file.open()), closing(file.open_to_read()) as reader:
        assert [(0,)] == reader.execute("SELECT count(*) FROM runs").fetchall()
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            reader.execute("DELETE FROM runs")


def test_a_second_process_is_refused_until_the_first_is_gone(tmp_path: Path) -> None:
    """R45: two processes would each start what they believe to be theirs."""
    path = tmp_path / "store.db"
    command = [sys.executable, "-m", "tests.store.promises", str(path), "first"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as first:
        assert first.stdout is not None
        assert b"begun" in first.stdout.readline()
        assert f"{path}: another process uses it: replicas need a redis:// store" == refusal(path)
        first.kill()
        first.stdout.read()
    with opened(path) as db:
        assert db.execute("SELECT count(*) FROM runs").fetchone() > (0,)


def test_a_second_store_of_this_process_is_refused_and_disturbs_nothing(tmp_path: Path) -> None:
    """By another path to the same file, too."""
    first = SqliteFile(tmp_path / "store.db", patience=0.05)
    link = tmp_path / "link.db"
    link.symlink_to(tmp_path / "store.db")
    with closing(first.open()) as db:
        db.execute("BEGIN IMMEDIATE")
        assert "another process uses it" in refusal(link)
        db.execute("COMMIT")
    first.release()
    with opened(link) as db:
        assert [] == db.execute("SELECT * FROM runs").fetchall()


def test_who_could_not_open_it_holds_no_lock(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    path.write_bytes(b"this is not a database, but it is long enough to be looked at" * 100)
    assert f"{path}: the file belongs to another program" == refusal(path)
    path.unlink()
    with opened(path) as db:
        assert [] == db.execute("SELECT * FROM runs").fetchall()


def test_a_file_that_can_not_be_written_is_refused(private: Path) -> None:
    """R54."""
    path = private / "store.db"
    with opened(path):
        path.chmod(0o400)
    assert f"{path}: permission denied" == refusal(path)


@pytest.mark.parametrize("name", ["store.db", "var/store.db"])
def test_a_directory_that_can_not_be_written_is_refused(private: Path, name: str) -> None:
    """R54."""
    private.chmod(0o500)
    assert f"{private / name}: permission denied" == refusal(private / name)


def test_what_is_no_place_for_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert f"{tmp_path / 'file' / 'store.db'}: file exists" == refusal(tmp_path / "file" / "store.db")
    (tmp_path / "directory").mkdir()
    assert f"{tmp_path / 'directory'}: is a directory" == refusal(tmp_path / "directory")


def test_an_old_library_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 36, 0))
    assert "SQLite 3.37 or newer is needed" in refusal(tmp_path / "store.db")


def test_no_words_of_sqlite_get_out() -> None:
    """They may quote what was to be written."""
    with closing(sqlite3.connect(":memory:")) as db, pytest.raises(sqlite3.Error) as wrong:
        db.execute("SELECT 'a prompt' FROM nowhere")
    assert "SQLite failed" == str(unavailable(wrong.value))
    assert "SQLite failed" == str(unavailable(sqlite3.ProgrammingError("a prompt")))
    assert "SQLite failed" == str(unavailable(MemoryError()))
