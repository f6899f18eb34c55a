"""Runs and the keys that they were claimed with, in SQL. Every function runs inside a transaction of its caller."""

from __future__ import annotations

import math
import sqlite3
from dataclasses import replace
from typing import Any

import orjson

from gateway.store.contract import Answer, Claim, Filter, Finish, Key, Phase, StoredRun
from gateway.store.sqlite_callbacks import make_due

_KEEP_KEY = """
INSERT INTO keys (client, text, fingerprint, run_id, created_at) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (client, text) DO NOTHING"""

_KEEP_RUN = """
INSERT INTO runs (id, client, workflow, provider, created_at, deadline_at, owner, leased_until_at, phase, status,
    attempts, provider_run_id, document, finished_at, callback_url, callback_state, key_text)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING"""

_ADVANCE = """
UPDATE runs SET phase = ?, status = ?, attempts = ?, provider = ?, provider_run_id = ?
WHERE id = ? AND owner = ? AND phase <= ?"""

_UNSENT = "UPDATE runs SET phase = 0 WHERE id = ? AND owner = ? AND attempts = ? AND phase = 1"

_FINISH = """
UPDATE runs SET phase = 3, status = ?, document = ?, finished_at = ?, attempts = ?, provider_run_id = ?
WHERE id = ? AND owner = ? AND phase < 3 RETURNING number, client, key_text, callback_url"""

_DROP = "DELETE FROM runs WHERE id = ? AND owner = ? AND phase < 3 RETURNING client, key_text"

_RUNS = """
SELECT * FROM stored_runs
WHERE client = ? AND (created_at, id) < (?, ?) AND status = ifnull(?, status) AND workflow = ifnull(?, workflow)
ORDER BY created_at DESC, id DESC LIMIT ?"""

_CLAIM = "SELECT fingerprint, run_id, created_at, status, headers, body FROM keys WHERE client = ? AND text = ?"

# The inner query sorts, and it sorts narrow rows: orders may be large. What its turn took before comes first.
_ORPHANS = """
SELECT * FROM stored_runs WHERE id IN (
    SELECT id FROM runs WHERE phase < 3 AND CASE owner WHEN :owner THEN turn = :turn AND turn
        ELSE leased_until_at <= :now_at END
    ORDER BY owner != :owner, created_at, id LIMIT :limit
) ORDER BY owner != :owner, created_at, id"""

_TAKE = "UPDATE runs SET owner = ?, leased_until_at = ?, turn = ? WHERE id = ?"

_PHASE = 9  # its place among the fields of a StoredRun


def begin(db: sqlite3.Connection, run: StoredRun, key: Key | None) -> Claim | None:
    """See `Store.begin`."""
    if key is not None:
        row = (key.client, key.text, key.fingerprint, run.id, run.created_at)
        if not db.execute(_KEEP_KEY, row).rowcount:
            return read_claim(db, key.client, key.text)
    # fmt: off
    kept = db.execute(_KEEP_RUN, (
        run.id, run.client, run.workflow, run.provider, run.created_at, run.deadline_at, run.owner, run.leased_until_at,
        run.phase.value, run.status, run.attempts, run.provider_run_id, run.document, run.finished_at,
        run.callback_url, run.callback_state, key and key.text,
    ))
    # fmt: on
    if not kept.rowcount:
        raise ValueError("there is a run with this id")
    db.execute("INSERT INTO orders (run, body) VALUES (?, ?)", (kept.lastrowid, run.order))
    return None


def advance(db: sqlite3.Connection, run: StoredRun) -> bool:
    """See `Store.advance`."""
    if run.phase is Phase.DONE:
        return False
    phase = run.phase.value
    state = (phase, run.status, run.attempts, run.provider, run.provider_run_id)
    return db.execute(_ADVANCE, (*state, run.id, run.owner, phase)).rowcount == 1


def unsent(db: sqlite3.Connection, run: StoredRun) -> bool:
    """See `Store.unsent`."""
    return db.execute(_UNSENT, (run.id, run.owner, run.attempts)).rowcount == 1


def finish(db: sqlite3.Connection, run_id: str, end: Finish) -> bool:
    """See `Store.finish`."""
    state = (end.status, end.document, end.finished_at, end.attempts, end.provider_run_id)
    row = first(db, _FINISH, *state, run_id, end.owner)
    if row is None:
        return False
    number, client, text, callback_url = row
    if text is not None and end.answer is not None:
        _keep_answer(db, end.answer, (client, text, run_id))
    if callback_url is not None and end.callback is not None:
        make_due(db, number, end)
    return True


def _keep_answer(db: sqlite3.Connection, answer: Answer, of: tuple[str, str, str]) -> None:
    statement = "UPDATE keys SET status = ?, headers = ?, body = ? WHERE client = ? AND text = ? AND run_id = ?"
    db.execute(statement, (answer.status, orjson.dumps(answer.headers), answer.body, *of))


def drop(db: sqlite3.Connection, run_id: str, owner: str) -> None:
    """See `Store.drop`."""
    row = first(db, _DROP, run_id, owner)
    if row is not None and row[1] is not None:
        db.execute("DELETE FROM keys WHERE client = ? AND text = ? AND run_id = ?", (*row, run_id))


def read_run(db: sqlite3.Connection, run_id: str) -> StoredRun | None:
    """See `Store.run`."""
    row = first(db, "SELECT * FROM stored_runs WHERE id = ?", run_id)
    return None if row is None else _stored_run(row)


def read_runs(db: sqlite3.Connection, wanted: Filter) -> list[StoredRun]:
    """See `Store.runs`."""
    before_at, before_id = wanted.before or (math.inf, "")
    row = (wanted.client, before_at, before_id, wanted.status, wanted.workflow, wanted.limit)
    return [_stored_run(each) for each in db.execute(_RUNS, row)]


def read_claim(db: sqlite3.Connection, client: str, text: str) -> Claim | None:
    """See `Store.claim`."""
    row = first(db, _CLAIM, client, text)
    if row is None:
        return None
    fingerprint, run_id, created_at, status, headers, body = row
    answer = None
    if status is not None:
        answer = Answer(status, tuple((name, value) for name, value in orjson.loads(headers)), body)
    return Claim(Key(client, text, fingerprint), run_id, created_at, answer)


def renew(db: sqlite3.Connection, owner: str, until_at: float) -> None:
    """See `Store.renew`."""
    db.execute("UPDATE runs SET leased_until_at = ? WHERE phase < 3 AND owner = ?", (until_at, owner))


def adopt(
    db: sqlite3.Connection, owner: str, *, now_at: float, until_at: float, limit: int, turn: int
) -> list[StoredRun]:
    """See `Store.adopt`."""
    wanted = {"owner": owner, "now_at": now_at, "limit": limit, "turn": turn}
    orphans = [_stored_run(row) for row in db.execute(_ORPHANS, wanted)]
    db.executemany(_TAKE, [(owner, until_at, turn, orphan.id) for orphan in orphans])
    return [replace(orphan, owner=owner, leased_until_at=until_at) for orphan in orphans]


def secret(db: sqlite3.Connection, name: str, fresh: bytes) -> bytes:
    """See `Store.secret`."""
    db.execute("INSERT INTO secrets (name, value) VALUES (?, ?) ON CONFLICT (name) DO NOTHING", (name, fresh))
    (value,) = db.execute("SELECT value FROM secrets WHERE name = ?", (name,)).fetchone()
    return bytes(value)


def first(db: sqlite3.Connection, statement: str, *values: object) -> tuple[Any, ...] | None:
    """Run a statement to its end, and return its first row."""
    rows = db.execute(statement, values).fetchall()
    return rows[0] if rows else None


def _stored_run(row: tuple[Any, ...]) -> StoredRun:
    """Read a row of `stored_runs`; its columns are the fields, in their order."""
    fields = list(row)
    fields[_PHASE] = Phase(fields[_PHASE])
    return StoredRun(*fields)
