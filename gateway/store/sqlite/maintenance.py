"""Maintenance of the SQLite file: retention, vacuum and health checks. Every function is one short transaction."""

from __future__ import annotations

import sqlite3

from gateway.store.sqlite.schema import MIGRATIONS

_ROWS_PER_BATCH = 200  # rows of each table; bounds the time that other changes wait
_PAGES_PER_VACUUM = 200  # pages released to the file system at once
_FREE_PAGES_KEPT = 1_000  # free pages that stay in the file for the next runs, at least
_FREE_PART_KEPT = 5  # and one of so many pages of the file: to release a page costs more than to write a run

# Runs with an undelivered callback are kept, whatever their age.
_PURGE_RUNS = """
DELETE FROM runs WHERE number IN (
    SELECT number FROM runs INDEXED BY runs_ended WHERE phase = 3 AND durable = 1 AND finished_at < ?
    AND NOT EXISTS (SELECT 1 FROM callbacks WHERE run = number AND due_at IS NOT NULL) LIMIT ?
)"""

_PURGE_DAILY_USAGE = "DELETE FROM daily_usage WHERE ends_at < ?"

_PURGE_KEYS = "DELETE FROM keys WHERE number IN (SELECT number FROM keys WHERE created_at < ? LIMIT ?)"


def purge(db: sqlite3.Connection, runs_before_at: float, keys_before_at: float) -> int:
    """Delete one batch for `Store.purge`; returns the number of deleted rows, 0 if there are no more."""
    db.execute(_PURGE_DAILY_USAGE, (runs_before_at,))
    runs = db.execute(_PURGE_RUNS, (runs_before_at, _ROWS_PER_BATCH)).rowcount
    return runs + db.execute(_PURGE_KEYS, (keys_before_at, _ROWS_PER_BATCH)).rowcount


def release_free_pages(db: sqlite3.Connection) -> bool:
    """Release some free pages to the file system; returns True if there are more."""
    before = _count_surplus_pages(db)
    if before <= 0:
        return False
    db.execute(
        f"PRAGMA incremental_vacuum({min(_PAGES_PER_VACUUM, before)})"
    ).fetchall()  # SQLite releases one page for each row that is fetched
    return 0 < _count_surplus_pages(db) < before


def get_daily_usage(db: sqlite3.Connection) -> dict[str, tuple[int, float]]:
    """Implement `DailyUsageStore.get_daily_usage`."""
    rows = db.execute("SELECT client, used, ends_at FROM daily_usage").fetchall()
    return {client: (used, ends_at) for client, used, ends_at in rows}


def set_daily_usage(db: sqlite3.Connection, client: str, usage: tuple[int, float]) -> None:
    """Implement `DailyUsageStore.set_daily_usage`."""
    db.execute("INSERT OR REPLACE INTO daily_usage (client, used, ends_at) VALUES (?, ?, ?)", (client, *usage))


def check_writable(db: sqlite3.Connection) -> None:
    """Write an unchanged value; the commit has to reach the disk."""
    db.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")


def check_readable(db: sqlite3.Connection) -> None:
    """Read from a table."""
    db.execute("SELECT 1 FROM runs LIMIT 1").fetchall()


def _count_surplus_pages(db: sqlite3.Connection) -> int:
    free, pages = (int(db.execute(f"PRAGMA {name}").fetchone()[0]) for name in ("freelist_count", "page_count"))
    return free - max(_FREE_PAGES_KEPT, pages // _FREE_PART_KEPT)
