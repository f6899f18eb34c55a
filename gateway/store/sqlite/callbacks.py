"""Outbox of callbacks in SQL. Every function runs inside a transaction of its caller."""

from __future__ import annotations

import sqlite3
from dataclasses import replace

from gateway.store.records import PENDING, Delivery, FinalState
from gateway.store.sqlite.timelines import add_events

_INSERT = """
INSERT INTO callbacks (run, created_at, due_at, written_at, attempts, body) VALUES (?, ?, ?, ?, 0, x'')
ON CONFLICT (run) DO UPDATE SET created_at = excluded.created_at, due_at = excluded.due_at, attempts = 0,
    written_at = excluded.written_at, body = x'', revision = revision + 1"""

_INSERT_BODY = """
INSERT INTO callback_bodies (run, body) VALUES (?, ?) ON CONFLICT (run) DO UPDATE SET body = excluded.body"""

_SELECT_DUE = """
SELECT id, client, callback_url, ifnull(length(callback_bodies.body), length(callbacks.body)), callbacks.created_at,
    callbacks.attempts, revision
FROM callbacks JOIN runs ON number = callbacks.run LEFT JOIN callback_bodies ON callback_bodies.run = number
WHERE due_at <= ? ORDER BY due_at, id LIMIT ?"""

_MAKE_DUE = "UPDATE callbacks SET due_at = ?, written_at = ? WHERE due_at IS NOT NULL AND written_at > ?"

_SET_DUE_AT = "UPDATE callbacks SET due_at = ?, written_at = ? WHERE run = (SELECT number FROM runs WHERE id = ?)"

_KEEP_TAKEN = """
UPDATE callbacks SET due_at = ?
WHERE run = (SELECT number FROM runs WHERE id = ?) AND revision = ? AND due_at = ? RETURNING run"""

_SELECT_BODY = """
SELECT ifnull(callback_bodies.body, callbacks.body)
FROM callbacks LEFT JOIN callback_bodies ON callback_bodies.run = callbacks.run WHERE callbacks.run = ?"""

_POSTPONE = """
UPDATE callbacks SET due_at = ?, attempts = attempts + 1
WHERE run = (SELECT number FROM runs WHERE id = ?) AND revision = ? AND due_at IS NOT NULL"""

_SETTLE = """
UPDATE callbacks SET due_at = NULL
WHERE run = (SELECT number FROM runs WHERE id = ?) AND revision = ? AND due_at IS NOT NULL"""

_REDELIVER = """
UPDATE callbacks SET due_at = ?, written_at = ?, attempts = 0 WHERE run = (SELECT number FROM runs WHERE id = ?)"""


_SELECT_BY_STATE = "SELECT id FROM runs WHERE callback_state = ? AND id > ? ORDER BY id LIMIT ?"


def schedule_callback(db: sqlite3.Connection, number: int, final_state: FinalState) -> None:
    """Add the callback of the run with this row number to the outbox, or replace it by the next revision."""
    finished_at = final_state.finished_at
    db.execute(_INSERT, (number, finished_at, final_state.due_at, finished_at))
    db.execute(_INSERT_BODY, (number, final_state.callback))
    db.execute("UPDATE runs SET callback_state = ? WHERE number = ?", (PENDING, number))


def take_due_callbacks(
    db: sqlite3.Connection, *, now_at: float, until_at: float, limit: int, latest_at: float
) -> list[Delivery]:
    """Implement `Store.take_due_callbacks`."""
    db.execute(_MAKE_DUE, (now_at, now_at, latest_at))
    deliveries = [replace(Delivery(*row), taken_until_at=until_at) for row in db.execute(_SELECT_DUE, (now_at, limit))]
    db.executemany(_SET_DUE_AT, [(until_at, now_at, delivery.run_id) for delivery in deliveries])
    return deliveries


def load_callback(db: sqlite3.Connection, delivery: Delivery, until_at: float) -> bytes | None:
    """Implement `Store.load_callback`."""
    row = (until_at, delivery.run_id, delivery.revision, delivery.taken_until_at)
    for (number,) in db.execute(_KEEP_TAKEN, row).fetchall():
        (body,) = db.execute(_SELECT_BODY, (number,)).fetchone()
        return bytes(body)
    return None


def settle_callback(db: sqlite3.Connection, run_id: str, state: str, revision: int, events: bytes) -> None:
    """Implement `Store.settle_callback`."""
    if db.execute(_SETTLE, (run_id, revision)).rowcount:
        _set_state(db, run_id, state)
        add_events(db, run_id, events)


def postpone_callback(db: sqlite3.Connection, run_id: str, due_at: float, revision: int, events: bytes) -> bool:
    """Implement `Store.postpone_callback`, but return False for KeyError: an error would roll back the whole batch."""
    found = db.execute(_POSTPONE, (due_at, run_id, revision)).rowcount == 1
    if found:
        add_events(db, run_id, events)
    return found


def list_by_callback_state(db: sqlite3.Connection, *, state: str, limit: int, after: str) -> list[str]:
    """Implement `Store.list_by_callback_state`."""
    return [run_id for (run_id,) in db.execute(_SELECT_BY_STATE, (state, after, limit))]


def redeliver_callback(db: sqlite3.Connection, run_id: str, now_at: float) -> bool:
    """Implement `Store.redeliver_callback`."""
    found = db.execute(_REDELIVER, (now_at, now_at, run_id)).rowcount == 1
    if found:
        _set_state(db, run_id, PENDING)
    return found


def _set_state(db: sqlite3.Connection, run_id: str, state: str) -> None:
    db.execute("UPDATE runs SET callback_state = ? WHERE id = ?", (state, run_id))
