"""History of runs in SQL. Every function runs inside a transaction of its caller."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from gateway.store.history import HistoryEntry

ROWS_PER_BATCH = 250
"""Rows of one transaction; bounds the time that other changes wait."""

_ADD_RUN = """
INSERT INTO runs (number, id, client, workflow, provider, created_at, deadline_at, owner, leased_until_at, phase,
    status, attempts, provider_run_id, finished_at, details, durable, timeline)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0, ?) ON CONFLICT (id) DO NOTHING"""

# Only for a run that was added under this number.
_ADD_TAG = """
INSERT INTO run_tags (client, tag, created_at, id, run)
SELECT client, ?, created_at, id, number FROM runs WHERE number = ? AND id = ?"""

_COUNT_SURPLUS = """
SELECT max(count(*) - ?, (
    SELECT count(*) FROM runs INDEXED BY runs_ended WHERE phase = 3 AND durable = 0 AND finished_at < ?
)) FROM runs INDEXED BY runs_ended WHERE phase = 3 AND durable = 0"""

_PURGE_OLDEST = """
DELETE FROM runs WHERE number IN (
    SELECT number FROM runs INDEXED BY runs_ended WHERE phase = 3 AND durable = 0 ORDER BY finished_at LIMIT ?
)"""

_SET_ACTIVITY = "UPDATE runs SET activity = ? WHERE id = ? AND owner = ? AND phase < 3"

_JUDGE = "UPDATE runs SET judgement = ? WHERE id = ? AND phase = 3 AND status = 'unknown'"


def add_history(db: sqlite3.Connection, entries: Sequence[HistoryEntry]) -> None:
    """Implement `HistoryStore.add_history`."""
    (first,) = db.execute("SELECT ifnull(max(number), 0) + 1 FROM runs").fetchone()
    # fmt: off
    db.executemany(_ADD_RUN, [(
        number, run.id, run.client, run.workflow, run.provider, run.created_at, run.deadline_at, run.owner,
        run.leased_until_at, run.phase.value, run.status, run.attempts, run.provider_run_id, run.finished_at,
        run.details, entry.timeline or None,
    ) for number, entry in enumerate(entries, first) for run in (entry.run,)])
    # fmt: on
    tags = [(tag, number, entry.run.id) for number, entry in enumerate(entries, first) for tag in entry.tags]
    if tags:
        db.executemany(_ADD_TAG, tags)


def count_surplus(db: sqlite3.Connection, before_at: float, most: int) -> int:
    """Return how many of the oldest recorded runs `HistoryStore.purge_history` deletes; 0 or less for none."""
    return int(db.execute(_COUNT_SURPLUS, (most, before_at)).fetchone()[0])


def purge_oldest(db: sqlite3.Connection, count: int) -> int:
    """Delete the oldest recorded runs; returns the number deleted, at most `count`."""
    return db.execute(_PURGE_OLDEST, (count,)).rowcount


def get_timeline(db: sqlite3.Connection, run_id: str) -> bytes | None:
    """Implement `HistoryStore.get_timeline`."""
    rows = db.execute("SELECT ifnull(timeline, X'') FROM runs WHERE id = ?", (run_id,)).fetchall()
    return bytes(rows[0][0]) if rows else None


def set_activities(db: sqlite3.Connection, owner: str, activities: Sequence[tuple[str, bytes]]) -> None:
    """Implement `HistoryStore.set_activities`."""
    db.executemany(_SET_ACTIVITY, [(activity, run_id, owner) for run_id, activity in activities])


def judge(db: sqlite3.Connection, run_id: str, judgement: bytes) -> bool:
    """Implement `HistoryStore.judge`."""
    return db.execute(_JUDGE, (judgement, run_id)).rowcount == 1
