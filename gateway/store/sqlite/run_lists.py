"""Lists of runs in SQL: keyset pages over an index, with a bound on the rows that a query examines."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import replace

from gateway.store import success_segments
from gateway.store.records import OVERVIEW_FIELDS, RunOverview, RunPage
from gateway.store.run_filter import Position, RunFilter, activity_fragments, details_fragments, details_match
from gateway.store.sqlite import segments
from gateway.store.sqlite.run_sources import Condition, Source, choose_source, select_position, select_runs
from gateway.store.sqlite.runs import decode_overview
from gateway.store.sqlite.statements import fetch_first

_COLUMNS = ", ".join(f"runs.{name}" for name in OVERVIEW_FIELDS)

_HAS_TAG = """EXISTS (SELECT 1 FROM run_tags AS other WHERE other.client = runs.client AND other.tag = ?
    AND other.created_at = runs.created_at AND other.id = runs.id)"""

_FIRST_PART = 500
"""Runs examined first: a page is often full then. The parts that follow are larger, as each costs a query more."""


def list_runs(db: sqlite3.Connection, run_filter: RunFilter) -> RunPage:
    """Implement `Store.list_runs`."""
    rows = _list_rows(db, run_filter)
    return success_segments.merge(rows, segments.list_runs(db, run_filter), run_filter.limit)


def _list_rows(db: sqlite3.Connection, run_filter: RunFilter) -> RunPage:
    """Implement `Store.list_runs` for the runs that are in no segment."""
    places = _range_of_positions(run_filter)
    source = choose_source(db, run_filter)
    conditions = _conditions(run_filter, source)
    if not conditions:
        return RunPage(_find(db, run_filter, source, places))
    found: list[RunOverview] = []
    examined, part = 0, _FIRST_PART
    wanted, last = run_filter, None
    while examined < run_filter.max_examined:
        part = min(part, run_filter.max_examined - examined)
        places = _range_of_positions(wanted)
        last = _last_examined(db, source, places, part)
        if last is not None:  # it is the lower bound, as SQLite would search for one of two
            places = [_before(wanted), Condition("({place}.created_at, {place}.id) >= (?, ?)", last)]
        found += _find(db, wanted, source, [*places, *conditions])
        if last is None or len(found) == run_filter.limit:
            return RunPage(found)
        wanted = replace(run_filter, before=last, limit=run_filter.limit - len(found))
        examined, part = examined + part, part * 4
    return RunPage(found, last)


def _find(
    db: sqlite3.Connection, run_filter: RunFilter, source: Source, conditions: list[Condition]
) -> list[RunOverview]:
    """Return the first runs that meet the conditions."""
    statement, values = select_runs(_COLUMNS, source, conditions)
    found: list[RunOverview] = []
    with closing(db.execute(statement, values)) as rows:  # read until the page is full
        for row in rows:
            run = decode_overview(row)
            if details_match(run.details, run_filter):
                found.append(run)
                if len(found) == run_filter.limit:
                    break
    return found


def _range_of_positions(run_filter: RunFilter) -> list[Condition]:
    bounds = [_before(run_filter)]
    if run_filter.created_from is not None:
        bounds.append(Condition("{place}.created_at >= ?", (run_filter.created_from,)))
    return bounds


def _before(run_filter: RunFilter) -> Condition:
    return Condition("({place}.created_at, {place}.id) < (?, ?)", run_filter.upper_bound)


def _conditions(run_filter: RunFilter, source: Source) -> list[Condition]:
    """Return the conditions that are neither on the position of a run nor those of the source."""
    conditions = [Condition(f"runs.{name} = ?", (value,)) for name, value in run_filter.equalities.items()]
    if run_filter.client is not None:
        conditions.append(Condition("{place}.client = ?", (run_filter.client,)))
    if run_filter.min_duration is not None:
        conditions.append(Condition("runs.finished_at - runs.created_at >= ?", (run_filter.min_duration,)))
    if run_filter.max_duration is not None:
        conditions.append(Condition("runs.finished_at - runs.created_at <= ?", (run_filter.max_duration,)))
    if run_filter.durable is not None:
        conditions.append(Condition("runs.durable = ?", (run_filter.durable,)))
    if run_filter.judged is not None:
        conditions.append(Condition("(runs.judgement IS NOT NULL) = ?", (run_filter.judged,)))
    conditions = [condition for condition in conditions if condition not in source.ensured]
    conditions += [Condition(_HAS_TAG, (tag,)) for tag in run_filter.tags if tag != source.tag]
    conditions += [Condition("instr(runs.activity, ?)", (fragment,)) for fragment in activity_fragments(run_filter)]
    conditions += [Condition("instr(runs.details, ?)", (fragment,)) for fragment in details_fragments(run_filter)]
    return conditions


def _last_examined(
    db: sqlite3.Connection, source: Source, places: list[Condition], max_examined: int
) -> Position | None:
    """Return the position of the last run to be examined; None if there are fewer. Reads the index only."""
    statement, values = select_position(source, places, max_examined - 1)
    row = fetch_first(db, statement, *values)
    return None if row is None else (row[0], row[1])
