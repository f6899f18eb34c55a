"""History of runs in SQL. Every function runs inside a transaction of its caller."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from gateway.store.history import HistoryEntry
from gateway.store.sqlite import segments
from gateway.store.sqlite.usage import count_recorded
from gateway.store.success_segments import SuccessSegment

ROWS_PER_BATCH = 250
"""Rows of one transaction; bounds the time that other changes wait."""

CONTENTS_PER_BATCH = 100
"""Runs whose content is deleted in one transaction."""

_ADD_RUN = """
INSERT INTO runs (number, id, client, workflow, provider, created_at, deadline_at, owner, leased_until_at, phase,
    status, attempts, provider_run_id, finished_at, details, durable, timeline)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0, ?) ON CONFLICT (id) DO NOTHING"""

# Only for a run that was added under this number.
_ADD_TAG = """
INSERT INTO run_tags (client, tag, created_at, id, run)
SELECT client, ?, created_at, id, number FROM runs WHERE number = ? AND id = ?"""

_COUNT = "SELECT count(*) FROM runs INDEXED BY runs_ended WHERE phase = 3 AND durable = 0"

_COUNT_ENDED = f"{_COUNT} AND finished_at < ?"

_PURGE_OLDEST = """
DELETE FROM runs WHERE number IN (
    SELECT number FROM runs INDEXED BY runs_ended
    WHERE phase = 3 AND durable = 0 AND finished_at <= ? ORDER BY finished_at LIMIT ?
)"""

_IS_ADDED = "SELECT 1 FROM runs WHERE number = ? AND id = ?"

_SELECT_EXPIRED_CONTENT = "SELECT run FROM kept_content WHERE until_at < ? LIMIT ?"

_DELETE_CONTENT = tuple(
    f"DELETE FROM {table} WHERE run = ?"  # noqa: S608 - fixed names
    for table in ("orders", "documents", "kept_content")
)

_SET_ACTIVITY = "UPDATE runs SET activity = ? WHERE id = ? AND owner = ? AND phase < 3"

_JUDGE = "UPDATE runs SET judgement = ? WHERE id = ? AND phase = 3 AND status = 'unknown'"


def add_history(db: sqlite3.Connection, entries: Sequence[HistoryEntry]) -> None:
    """Implement `HistoryStore.add_history`."""
    (first,) = db.execute("SELECT ifnull(max(number), 0) + 1 FROM runs").fetchone()
    # fmt: off
    added = db.executemany(_ADD_RUN, [(
        number, run.id, run.client, run.workflow, run.provider, run.created_at, run.deadline_at, run.owner,
        run.leased_until_at, run.phase.value, run.status, run.attempts, run.provider_run_id, run.finished_at,
        run.details, entry.timeline or None,
    ) for number, entry in enumerate(entries, first) for run in (entry.run,)]).rowcount
    # fmt: on
    counted = [(number, entry) for number, entry in enumerate(entries, first) if entry.usage is not None]
    if added < len(entries):
        counted = [(number, entry) for number, entry in counted if _is_added(db, number, entry)]
    count_recorded(db, [(number, entry.usage) for number, entry in counted if entry.usage is not None])
    tags = [(tag, number, entry.run.id) for number, entry in enumerate(entries, first) for tag in entry.tags]
    if tags:
        db.executemany(_ADD_TAG, tags)
    for number, entry in enumerate(entries, first):
        if entry.content_until_at is not None and _is_added(db, number, entry):
            _add_content(db, number, entry, entry.content_until_at)


def add_successes(db: sqlite3.Connection, added: Sequence[SuccessSegment], entries: Sequence[HistoryEntry]) -> None:
    """Add segments that are not there yet, and the records that are in none."""
    segments.add_segments(db, added)
    if entries:
        add_history(db, entries)


def _is_added(db: sqlite3.Connection, number: int, entry: HistoryEntry) -> bool:
    """Return whether an entry was added under this number: else its id existed."""
    return bool(db.execute(_IS_ADDED, (number, entry.run.id)).fetchall())


def _add_content(db: sqlite3.Connection, number: int, entry: HistoryEntry, until_at: float) -> None:
    db.execute("INSERT INTO orders (run, body) VALUES (?, ?)", (number, entry.run.order))
    if entry.run.document is not None:
        db.execute("INSERT INTO documents (run, body) VALUES (?, ?)", (number, entry.run.document))
    db.execute("INSERT INTO kept_content (run, until_at) VALUES (?, ?)", (number, until_at))


def count_surplus(db: sqlite3.Connection, before_at: float, most: int) -> int:
    """Return how many of the oldest recorded runs `HistoryStore.purge_history` deletes; 0 or less for none."""
    number = db.execute(_COUNT).fetchone()[0] + segments.count(db)
    ended = db.execute(_COUNT_ENDED, (before_at,)).fetchone()[0] + segments.count_ended(db, before_at)
    return int(max(number - most, ended))


def purge_oldest(db: sqlite3.Connection, most: int) -> int:
    """Delete a batch of the oldest recorded runs, at most `most`; returns the number deleted.

    Those in a segment are as old as the last one of them.
    """
    deleted = db.execute(_PURGE_OLDEST, (segments.oldest_end(db), min(most, ROWS_PER_BATCH))).rowcount
    return deleted or segments.purge_oldest(db, most)


def purge_content(db: sqlite3.Connection, before_at: float) -> int:
    """Delete one batch for `HistoryStore.purge_content`; returns its number of runs, 0 if there are no more."""
    old = db.execute(_SELECT_EXPIRED_CONTENT, (before_at, CONTENTS_PER_BATCH)).fetchall()
    for statement in _DELETE_CONTENT:
        db.executemany(statement, old)
    return len(old)


def drop_content(db: sqlite3.Connection, run_id: str) -> None:
    """Delete the order and the document of a run that is not durable."""
    found = db.execute("SELECT number FROM runs WHERE id = ? AND NOT durable", (run_id,)).fetchall()
    db.executemany("UPDATE runs SET document = NULL WHERE number = ?", found)
    for statement in _DELETE_CONTENT:
        db.executemany(statement, found)


def get_timeline(db: sqlite3.Connection, run_id: str) -> bytes | None:
    """Implement `HistoryStore.get_timeline`."""
    rows = db.execute("SELECT ifnull(timeline, X'') FROM runs WHERE id = ?", (run_id,)).fetchall()
    return bytes(rows[0][0]) if rows else segments.get_timeline(db, run_id)


def set_activities(db: sqlite3.Connection, owner: str, activities: Sequence[tuple[str, bytes]]) -> None:
    """Implement `HistoryStore.set_activities`."""
    db.executemany(_SET_ACTIVITY, [(activity, run_id, owner) for run_id, activity in activities])


def judge(db: sqlite3.Connection, run_id: str, judgement: bytes) -> bool:
    """Implement `HistoryStore.judge`."""
    return db.execute(_JUDGE, (judgement, run_id)).rowcount == 1
