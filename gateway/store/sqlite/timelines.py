"""Timelines of runs in SQL. Every function runs inside a transaction of its caller."""

from __future__ import annotations

import sqlite3

from gateway.store.history import MAX_TIMELINE

ADD_EVENTS = f"""timeline = CASE WHEN ifnull(length(timeline), 0) + length(?1) <= {MAX_TIMELINE}
    THEN CAST(ifnull(timeline, X'') || ?1 AS BLOB) ELSE timeline END"""
"""Assignment in an UPDATE of `runs`, whose first value is the bytes of the events."""

_ADD_EVENTS_OF_RUN = f"UPDATE runs SET {ADD_EVENTS} WHERE id = ?"  # noqa: S608 - fixed text


def add_events(db: sqlite3.Connection, run_id: str, events: bytes) -> None:
    """Add events to the timeline of a run, if there are any and they do not make it too long."""
    if events:
        db.execute(_ADD_EVENTS_OF_RUN, (events, run_id))
