"""Migrations of the SQLite schema; files of newer versions are refused."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.store.contract import PENDING, Delivery, IdempotencyRecord, Phase, StoreUnavailable
from gateway.store.sqlite.schema import MIGRATIONS, migrate
from gateway.store.sqlite.store import SqliteStore
from tests.store.samples import (
    CALLBACK_URL,
    NOW,
    SAMPLE_FINAL_STATE,
    SAMPLE_KEY,
    SAMPLE_RESPONSE,
    new_run,
    new_run_with_callback,
)
from tests.support.clock import ManualClock

VERSION_1 = Path(__file__).parent / "version_1.sql"
SECOND = "ALTER TABLE runs ADD COLUMN colour TEXT; UPDATE runs SET colour = 'green'"


@pytest.fixture
def db() -> Iterator[sqlite3.Connection]:
    """A database of version 1, with what a gateway of that version left."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as made:
        made.executescript(VERSION_1.read_text())
        yield made


def version(db: sqlite3.Connection) -> int:
    """Return the schema version."""
    return int(db.execute("PRAGMA user_version").fetchone()[0])


async def test_a_file_of_version_1_is_understood(tmp_path: Path) -> None:
    """The script was written by version 1, and is never written again: what people have on their disks must open."""
    with closing(sqlite3.connect(tmp_path / "store.db")) as made:
        made.executescript(VERSION_1.read_text())
    store = SqliteStore(tmp_path / "store.db", ManualClock())
    await store.open()
    queued = new_run(2, phase=Phase.FOLLOWING, status="running", provider_run_id="98765", leased_until_at=0.0)
    done = new_run_with_callback(
        phase=Phase.DONE, status="succeeded", attempts=2, provider_run_id="98765", finished_at=NOW + 5
    )
    assert replace(done, document=SAMPLE_FINAL_STATE.document, callback_state=PENDING) == await store.get_run("run_1")
    assert queued == await store.get_run("run_2")
    assert IdempotencyRecord(SAMPLE_KEY, "run_1", NOW + 1, SAMPLE_RESPONSE) == await store.get_idempotency_record(
        SAMPLE_KEY.client, SAMPLE_KEY.text
    )
    assert IdempotencyRecord(replace(SAMPLE_KEY, text="key-2"), "run_2", NOW + 2) == await store.get_idempotency_record(
        SAMPLE_KEY.client, "key-2"
    )
    delivery = Delivery("run_1", "checkout", CALLBACK_URL, b'{"type":"run.finished"}', NOW + 5, attempts=1)
    assert [delivery] == await store.take_due_callbacks(now_at=NOW + 10, until_at=NOW + 70, limit=9)
    assert await store.finish("run_2", SAMPLE_FINAL_STATE)
    await store.ping()
    await store.close()


def test_a_new_file_gets_every_step() -> None:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as db:
        migrate(db, (*MIGRATIONS, SECOND))
        assert len(MIGRATIONS) + 1 == version(db)
        assert [] == db.execute("SELECT colour FROM runs").fetchall()


def test_an_old_file_gets_the_steps_it_lacks(db: sqlite3.Connection) -> None:
    """Existing data are kept; a second migration does nothing."""
    for _ in range(2):
        migrate(db, (MIGRATIONS[0], SECOND))
        assert 2 == version(db)
    assert [("run_1", "green"), ("run_2", "green")] == db.execute("SELECT id, colour FROM runs ORDER BY id").fetchall()


def test_a_step_that_fails_leaves_the_file_as_it_was(db: sqlite3.Connection) -> None:
    """A failed step is rolled back entirely; earlier steps stay applied."""
    with pytest.raises(sqlite3.OperationalError):
        migrate(db, (MIGRATIONS[0], SECOND, "DROP TABLE keys; SELECT * FROM nowhere"))
    db.execute("ROLLBACK")  # as closing does
    assert 2 == version(db)
    assert [(2,)] == db.execute("SELECT count(*) FROM keys").fetchall()
    migrate(db, (MIGRATIONS[0], SECOND, "DROP TABLE keys"))
    assert 3 == version(db)


async def test_a_newer_file_is_refused_and_not_touched(tmp_path: Path) -> None:
    """After a downgrade, the older version must not use the file."""
    path = tmp_path / "store.db"
    newer = len(MIGRATIONS) + 1
    with closing(sqlite3.connect(path)) as db:
        db.executescript(VERSION_1.read_text() + f"PRAGMA user_version = {newer};")
    before = path.read_bytes()
    with pytest.raises(StoreUnavailable) as refused:
        await SqliteStore(path, ManualClock()).open()
    assert f"{path}: the file has schema {newer}, and this version of Runward supports {newer - 1}" == str(
        refused.value
    )
    assert before == path.read_bytes()


@pytest.mark.parametrize("script", ["CREATE TABLE runs (id)", "CREATE TABLE t (id); PRAGMA user_version = 1"])
async def test_another_programs_file_is_refused_and_not_touched(tmp_path: Path, script: str) -> None:
    path = tmp_path / "theirs.db"
    with closing(sqlite3.connect(path)) as db:
        db.executescript(script)
    before = path.read_bytes()
    with pytest.raises(StoreUnavailable, match="belongs to another program"):
        await SqliteStore(path, ManualClock()).open()
    assert before == path.read_bytes()
