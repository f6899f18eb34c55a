"""Sources of the candidates of a search: the indexes of the runs, of which the one with the fewest candidates is read.

Each names its index, because the planner of SQLite knows nothing of the values, and could sort all candidates.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

from gateway.store.run_filter import RunFilter
from gateway.store.sqlite.runs import fetch_first

_UNFINISHED = frozenset({"queued", "running"})
_COMMON = _UNFINISHED | {"succeeded"}  # as in the index `runs_not_succeeded`
_COUNTED = 1_000  # candidates of a source, at most


@dataclass(frozen=True, slots=True)
class Condition:
    """Text in SQL, in which `{place}` is the table that has the columns of positions, and its values."""

    text: str
    values: tuple[object, ...] = ()


@dataclass(frozen=True, slots=True)
class Source:
    """Tables from which candidates are read in the order of their positions, and the conditions that they meet.

    `implied`: the condition of a partial index. `place`: the table that has the columns of their positions. `tag`: the
    tag that they have.
    """

    tables: str
    ensured: tuple[Condition, ...] = ()
    implied: str = ""
    place: str = "runs"
    tag: str | None = None


def choose_source(db: sqlite3.Connection, run_filter: RunFilter, places: Sequence[Condition]) -> Source:
    """Return the source of the runs that a search examines, those in the range `places`."""
    sources = _possible_sources(run_filter)
    return sources[0] if len(sources) == 1 else min(sources, key=lambda source: _count(db, source, places))


def select(columns: str, source: Source, conditions: Sequence[Condition]) -> tuple[str, tuple[object, ...]]:
    """Return a query for columns of the candidates that meet conditions, newest first, and its values."""
    everything = [*source.ensured, *conditions]
    text = " AND ".join([*([source.implied] if source.implied else []), *(each.text for each in everything)])
    statement = (
        f"SELECT {columns} FROM {source.tables} WHERE {text} "  # noqa: S608 - fixed texts
        "ORDER BY {place}.created_at DESC, {place}.id DESC"
    )
    return statement.replace("{place}", source.place), tuple(value for each in everything for value in each.values)


def _possible_sources(run_filter: RunFilter) -> list[Source]:
    client, status, prefix = run_filter.client, run_filter.status, run_filter.id_prefix
    if prefix is not None:
        above = prefix[:-1] + chr(ord(prefix[-1]) + 1)
        first = Condition("runs.id >= ? AND runs.id < ?", (prefix, above))
        return [Source("runs INDEXED BY sqlite_autoindex_runs_1", (first,))]
    if run_filter.provider_run_id is not None:
        same = Condition("runs.provider_run_id = ?", (run_filter.provider_run_id,))
        return [Source("runs INDEXED BY runs_of_provider", (same,))]
    sources = []
    if status in _UNFINISHED or run_filter.waiting_for is not None or run_filter.retrying:
        sources.append(Source("runs INDEXED BY runs_unfinished", implied="runs.phase < 3"))
    elif status is not None and status not in _COMMON:
        same = Condition("runs.status = ?", (status,))
        rare = "runs.status NOT IN ('queued', 'running', 'succeeded')"
        sources.append(Source("runs INDEXED BY runs_not_succeeded", (same,), rare))
    sources += [_source_by_tag(client, tag) for tag in run_filter.tags]
    if client is not None and not run_filter.tags:
        sources.append(Source("runs INDEXED BY runs_of_client", (_is_of(client),)))
    return sources or [Source("runs INDEXED BY runs_of_all")]


def _source_by_tag(client: str | None, tag: str) -> Source:
    index = "run_tags_of_all" if client is None else "sqlite_autoindex_run_tags_1"
    tables = f"run_tags AS place INDEXED BY {index} CROSS JOIN runs ON runs.number = place.run"
    same_tag = Condition("place.tag = ?", (tag,))
    if client is None:
        return Source(tables, (same_tag,), place="place", tag=tag)
    return Source(tables, (_is_of(client), same_tag), place="place", tag=tag)


def _is_of(client: str) -> Condition:
    return Condition("{place}.client = ?", (client,))


def _count(db: sqlite3.Connection, source: Source, places: Sequence[Condition]) -> int:
    statement, values = select("1", source, places)
    row = fetch_first(db, f"SELECT count(*) FROM ({statement} LIMIT {_COUNTED})", *values)  # noqa: S608 - fixed texts
    return 0 if row is None else int(row[0])
