"""Segments of the history in SQL: records of successes, hundreds in a row. Every function runs in a transaction."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Generator, Sequence
from contextlib import closing
from math import inf
from typing import NamedTuple

from gateway.store import success_segments
from gateway.store.records import RunOverview, RunPage
from gateway.store.run_filter import RunFilter, bounds_of_prefix
from gateway.store.sqlite.statements import fetch_first
from gateway.store.sqlite.usage import add_usage
from gateway.store.success_segments import SuccessSegment
from gateway.store.usage import RunUsage, add_up_counts

# The same records have the same lowest and highest id.
_ADD = """
INSERT INTO segments (client, count, oldest_at, newest_at, ended_at, first_id, last_id) VALUES (?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (last_id, first_id) DO NOTHING"""

_ADD_HASHES = "INSERT INTO segment_hashes (segment, hashes) VALUES (?, ?)"

_ADD_RECORDS = "INSERT INTO segment_records (segment, records, timelines) VALUES (?, ?, ?)"

_SELECT_HOLDERS = """
SELECT client, records, timelines FROM segments CROSS JOIN segment_hashes ON segment_hashes.segment = number
    CROSS JOIN segment_records ON segment_records.segment = number
WHERE last_id >= ?1 AND first_id <= ?1 AND instr(hashes, ?2) ORDER BY last_id"""

_SELECT_RECORDS = "SELECT records FROM segment_records WHERE segment = ?"

_COUNT_ENDED = "SELECT ifnull(sum(count), 0) FROM segments WHERE ended_at < ?"

_SELECT_OLDEST = "SELECT number, count, ended_at FROM segments ORDER BY ended_at LIMIT 1"

_SELECT_SEGMENT = """
SELECT client, count, oldest_at, newest_at, ended_at, first_id, last_id, records, timelines, X''
FROM segments CROSS JOIN segment_records ON segment = number WHERE number = ?"""


class _Place(NamedTuple):
    client: str
    newest_at: float
    number: int


def add_segments(db: sqlite3.Connection, segments: Sequence[SuccessSegment]) -> None:
    """Add segments that are not there yet, and count their usage."""
    counts: Counter[RunUsage] = Counter()
    for segment in segments:
        if _add(db, segment):
            counts.update(segment.usages)
    add_usage(db, add_up_counts(counts).items())


def _add(db: sqlite3.Connection, segment: SuccessSegment) -> bool:
    """Return whether the segment was not there yet."""
    # fmt: off
    added = db.execute(_ADD, (
        segment.client, segment.count, segment.oldest_at, segment.newest_at, segment.ended_at,
        segment.first_id, segment.last_id,
    ))
    # fmt: on
    if added.rowcount:
        db.execute(_ADD_HASHES, (added.lastrowid, segment.hashes))
        db.execute(_ADD_RECORDS, (added.lastrowid, segment.records, segment.timelines))
    return added.rowcount > 0


def get_overview(db: sqlite3.Connection, run_id: str) -> RunOverview | None:
    """Return a run, or None if no segment has it."""
    found = _find(db, run_id)
    return None if found is None else found[0]


def get_timeline(db: sqlite3.Connection, run_id: str) -> bytes | None:
    """Return the timeline of a run, or None if no segment has it."""
    found = _find(db, run_id)
    return None if found is None else found[1]


def _find(db: sqlite3.Connection, run_id: str) -> tuple[RunOverview, bytes] | None:
    with closing(db.execute(_SELECT_HOLDERS, (run_id, success_segments.hash_of(run_id)))) as holders:
        for client, records, timelines in holders:
            if (found := success_segments.find(records, run_id)) is not None:
                number, line = found
                return success_segments.decode_overview(line, client), timelines.split(b"\0")[number]
    return None


def list_runs(db: sqlite3.Connection, run_filter: RunFilter) -> RunPage:
    """Implement `Store.list_runs` for the runs in segments."""
    if not success_segments.may_match(run_filter):
        return RunPage([])
    with closing(_places(db, run_filter)) as places:
        return success_segments.search(places, lambda place: _load_records(db, place), run_filter)


def _places(db: sqlite3.Connection, run_filter: RunFilter) -> Generator[_Place, None, None]:
    """Yield the segments that may have runs that meet the conditions, by `newest_at`, descending."""
    index, join = "segments_by_time", ""
    until, _ = run_filter.upper_bound
    conditions: list[tuple[str, tuple[object, ...]]] = [
        ("newest_at < ? AND oldest_at <= ?", (until + success_segments.MAX_SPAN + 1, until))
    ]
    if run_filter.client is not None:
        index = "segments_of_client"
        conditions.append(("client = ?", (run_filter.client,)))
    if run_filter.created_from is not None:
        conditions.append(("newest_at >= ?", (run_filter.created_from,)))
    if run_filter.id_prefix is not None:
        conditions.append(("last_id >= ? AND first_id < ?", bounds_of_prefix(run_filter.id_prefix)))
    if run_filter.provider_run_id is not None:
        join = "CROSS JOIN segment_hashes ON segment = number"
        conditions.append(("instr(hashes, ?)", (success_segments.hash_of(run_filter.provider_run_id),)))
    where = " AND ".join(text for text, _ in conditions)
    values = tuple(value for _, bound in conditions for value in bound)
    statement = f"""SELECT client, newest_at, number FROM segments INDEXED BY {index} {join}
        WHERE {where} ORDER BY newest_at DESC"""  # noqa: S608 - fixed texts
    with closing(db.execute(statement, values)) as rows:
        yield from map(_Place._make, rows)


def _load_records(db: sqlite3.Connection, place: _Place) -> bytes:
    return bytes(db.execute(_SELECT_RECORDS, (place.number,)).fetchone()[0])


def count(db: sqlite3.Connection) -> int:
    """Return the number of runs in segments."""
    return int(db.execute("SELECT ifnull(sum(count), 0) FROM segments").fetchone()[0])


def count_ended(db: sqlite3.Connection, before_at: float) -> int:
    """Return the number of runs in segments whose last run ended before this time."""
    return int(db.execute(_COUNT_ENDED, (before_at,)).fetchone()[0])


def oldest_end(db: sqlite3.Connection) -> float:
    """Return the time at which the last run of the oldest segment ended; infinite if there is no segment."""
    found = fetch_first(db, _SELECT_OLDEST)
    return inf if found is None else found[2]


def purge_oldest(db: sqlite3.Connection, most: int) -> int:
    """Delete the oldest segment, or of its runs the oldest `most`; returns their number, 0 if there is no segment."""
    found = fetch_first(db, _SELECT_OLDEST)
    if found is None:
        return 0
    number, runs, _ = found
    left = None
    if runs > most:
        segment = SuccessSegment(*db.execute(_SELECT_SEGMENT, (number,)).fetchone())
        left = success_segments.without_oldest(segment, most)
    db.execute("DELETE FROM segments WHERE number = ?", (number,))
    if left is None:
        return int(runs)
    _add(db, left)
    return most
