"""Lists of runs in SQL: keyset pages over an index, with a bound on the rows that a query examines."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import dataclass, replace

from gateway.store.contract import OVERVIEW_FIELDS, RunOverview, RunPage
from gateway.store.run_filter import Position, RunFilter, details_fragments, details_match
from gateway.store.sqlite.runs import decode_overview, fetch_first

_COLUMNS = ", ".join(f"runs.{name}" for name in OVERVIEW_FIELDS)

# The unary plus hides the client from the planner, which reads the few runs whose id begins so then.
_BY_ID = "runs WHERE +runs.client = ? AND runs.id >= ? AND runs.id < ?"
_BY_TAG = "run_tags AS place CROSS JOIN runs ON runs.number = place.run WHERE place.client = ? AND place.tag = ?"
_BY_CLIENT = "runs WHERE runs.client = ?"

_HAS_TAG = """EXISTS (SELECT 1 FROM run_tags AS other WHERE other.client = runs.client AND other.tag = ?
    AND other.created_at = runs.created_at AND other.id = runs.id)"""

_COUNT_OF_TAG = "SELECT count(*) FROM (SELECT 1 FROM run_tags WHERE client = ? AND tag = ? LIMIT 1000)"

_FIRST_PART = 500
"""Runs examined first: a page is often full then. The parts that follow are larger, as each costs a query more."""


@dataclass(frozen=True, slots=True)
class _Condition:
    text: str
    values: tuple[object, ...] = ()


@dataclass(frozen=True, slots=True)
class _Source:
    """Where candidates are read from, in their order. `place`: the table that has the columns of their positions."""

    condition: _Condition
    place: str


def list_runs(db: sqlite3.Connection, run_filter: RunFilter) -> RunPage:
    """Implement `Store.list_runs`."""
    run_filter = _rarest_tag_first(db, run_filter)
    source, conditions = _choose_source(run_filter), _conditions(run_filter)
    if not conditions:
        return RunPage(_find(db, run_filter, source, _range_of_positions(run_filter, source.place)))
    found: list[RunOverview] = []
    examined, part = 0, _FIRST_PART
    wanted, last = run_filter, None
    while examined < run_filter.max_examined:
        part = min(part, run_filter.max_examined - examined)
        places = _range_of_positions(wanted, source.place)
        last = _last_examined(db, source, places, part)
        if last is not None:
            places.append(_Condition(f"({source.place}.created_at, {source.place}.id) >= (?, ?)", last))
        found += _find(db, wanted, source, [*places, *conditions])
        if last is None or len(found) == run_filter.limit:
            return RunPage(found)
        wanted = replace(run_filter, before=last, limit=run_filter.limit - len(found))
        examined, part = examined + part, part * 4
    return RunPage(found, last)


def _find(
    db: sqlite3.Connection, run_filter: RunFilter, source: _Source, conditions: list[_Condition]
) -> list[RunOverview]:
    """Return the first runs that meet the conditions."""
    statement, values = _select(_COLUMNS, source, conditions)
    found: list[RunOverview] = []
    with closing(db.execute(statement, values)) as rows:  # read until the page is full
        for row in rows:
            run = decode_overview(row)
            if details_match(run.details, run_filter):
                found.append(run)
                if len(found) == run_filter.limit:
                    break
    return found


def _rarest_tag_first(db: sqlite3.Connection, run_filter: RunFilter) -> RunFilter:
    """Order the tags by the number of their runs, as far as they were counted: candidates are the runs of the first."""
    if len(run_filter.tags) < 2:
        return run_filter

    def count(tag: str) -> int:
        row = fetch_first(db, _COUNT_OF_TAG, run_filter.client, tag)
        return 0 if row is None else int(row[0])

    return replace(run_filter, tags=tuple(sorted(run_filter.tags, key=count)))


def _choose_source(run_filter: RunFilter) -> _Source:
    prefix = run_filter.id_prefix
    if prefix is not None:
        above = prefix[:-1] + chr(ord(prefix[-1]) + 1)
        return _Source(_Condition(_BY_ID, (run_filter.client, prefix, above)), "runs")
    if run_filter.tags:
        return _Source(_Condition(_BY_TAG, (run_filter.client, run_filter.tags[0])), "place")
    return _Source(_Condition(_BY_CLIENT, (run_filter.client,)), "runs")


def _range_of_positions(run_filter: RunFilter, place: str) -> list[_Condition]:
    bounds = [_Condition(f"({place}.created_at, {place}.id) < (?, ?)", run_filter.upper_bound)]
    if run_filter.created_from is not None:
        bounds.append(_Condition(f"{place}.created_at >= ?", (run_filter.created_from,)))
    return bounds


def _conditions(run_filter: RunFilter) -> list[_Condition]:
    """Return the conditions that are not on the position of a run."""
    conditions = [_Condition(f"runs.{name} = ?", (value,)) for name, value in run_filter.equalities.items()]
    if run_filter.min_duration is not None:
        conditions.append(_Condition("runs.finished_at - runs.created_at >= ?", (run_filter.min_duration,)))
    if run_filter.max_duration is not None:
        conditions.append(_Condition("runs.finished_at - runs.created_at <= ?", (run_filter.max_duration,)))
    tags = run_filter.tags if run_filter.id_prefix is not None else run_filter.tags[1:]
    conditions += [_Condition(_HAS_TAG, (tag,)) for tag in tags]
    conditions += [_Condition("instr(runs.details, ?)", (fragment,)) for fragment in details_fragments(run_filter)]
    return conditions


def _last_examined(
    db: sqlite3.Connection, source: _Source, places: list[_Condition], max_examined: int
) -> Position | None:
    """Return the position of the last run to be examined; None if there are fewer. Reads the index only."""
    columns = f"{source.place}.created_at, {source.place}.id"
    statement, values = _select(columns, source, places)
    row = fetch_first(db, f"{statement} LIMIT 1 OFFSET ?", *values, max_examined - 1)
    return None if row is None else (row[0], row[1])


def _select(columns: str, source: _Source, conditions: list[_Condition]) -> tuple[str, tuple[object, ...]]:
    everything = [source.condition, *conditions]
    order = f"{source.place}.created_at DESC, {source.place}.id DESC"
    text = " AND ".join(each.text for each in everything)
    values = tuple(value for each in everything for value in each.values)
    return f"SELECT {columns} FROM {text} ORDER BY {order}", values  # noqa: S608 - fixed texts
