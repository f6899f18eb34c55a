"""Sources of the candidates of a search: the indexes of the runs, of which the one with the fewest candidates is read.

Each names its index, because the planner of SQLite knows nothing of the values, and could sort all candidates. Those of
a source whose index has no positions are sorted: by the beginning of an id, and, if there are few, by a provider's id.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

from gateway.store.run_filter import RunFilter, bounds_of_prefix
from gateway.store.sqlite.statements import fetch_first

_UNFINISHED = frozenset({"queued", "running"})
_COMMON = _UNFINISHED | {"succeeded"}
_NOT_SUCCEEDED = "runs.status != 'queued' AND runs.status != 'running' AND runs.status != 'succeeded'"
_COUNTED = 1_000  # candidates of a source, at most; of sources with so many, the first one listed is read


@dataclass(frozen=True, slots=True)
class Condition:
    """Text in SQL, in which `{place}` is the table that has the columns of positions, and its values."""

    text: str
    values: tuple[object, ...] = ()


@dataclass(frozen=True, slots=True)
class Source:
    """An index from which candidates are read in the order of their positions, and the conditions that they meet.

    `implied`: the condition of a partial index. `place`: the table that has the columns of their positions, to which
    `join` adds the runs. `tag`: the tag that they have.
    """

    index: str
    ensured: tuple[Condition, ...] = ()
    implied: str = "true"
    place: str = "runs"
    join: str = ""
    tag: str | None = None


def choose_source(db: sqlite3.Connection, run_filter: RunFilter) -> Source:
    """Return the source of the runs that a search examines."""
    sources = _possible_sources(run_filter)
    return sources[0] if len(sources) == 1 else min(sources, key=lambda source: _count(db, source))


def select_runs(columns: str, source: Source, conditions: Sequence[Condition]) -> tuple[str, tuple[object, ...]]:
    """Return a query for columns of the candidates that meet conditions, newest first, and its values."""
    return _sorted(columns, source, source.join, conditions)


def select_position(source: Source, places: Sequence[Condition], number: int) -> tuple[str, tuple[object, ...]]:
    """Return a query for the position of one candidate, by its number in a range of positions, and its values."""
    text, values = _sorted("{place}.created_at, {place}.id", source, "", places)
    return f"{text} LIMIT 1 OFFSET ?", (*values, number)


def _sorted(columns: str, source: Source, join: str, conditions: Sequence[Condition]) -> tuple[str, tuple[object, ...]]:
    text, values = _select(columns, source, join, conditions)
    return f"{text} ORDER BY {source.place}.created_at DESC, {source.place}.id DESC", values


def _select(
    columns: str, source: Source, join: str = "", conditions: Sequence[Condition] = ()
) -> tuple[str, tuple[object, ...]]:
    everything = [Condition(source.implied), *source.ensured, *conditions]
    where = " AND ".join(each.text for each in everything)
    text = f"SELECT {columns} FROM {source.index} {join} WHERE {where}"  # noqa: S608 - fixed texts
    return text.replace("{place}", source.place), tuple(value for each in everything for value in each.values)


def _count(db: sqlite3.Connection, source: Source) -> int:
    statement, values = _select("1", source)
    row = fetch_first(db, f"SELECT count(*) FROM ({statement} LIMIT {_COUNTED})", *values)  # noqa: S608 - fixed texts
    return 0 if row is None else int(row[0])


def _possible_sources(run_filter: RunFilter) -> list[Source]:
    client, status, prefix = run_filter.client, run_filter.status, run_filter.id_prefix
    if prefix is not None:
        first = Condition("runs.id >= ? AND runs.id < ?", bounds_of_prefix(prefix))
        return [Source("runs INDEXED BY sqlite_autoindex_runs_1", (first,))]
    sources = []
    if status in _UNFINISHED or run_filter.waiting_for is not None or run_filter.retrying:
        sources.append(Source("runs INDEXED BY runs_unfinished", implied="runs.phase < 3"))
    elif status is not None and status not in _COMMON:
        same = Condition("runs.status = ?", (status,))
        sources.append(Source("runs INDEXED BY runs_not_succeeded", (same,), _NOT_SUCCEEDED))
    sources += [_source_by_tag(client, tag) for tag in run_filter.tags]
    if client is not None and not run_filter.tags:
        sources.append(Source("runs INDEXED BY runs_of_client", (_is_of(client),)))
    if not sources:
        sources.append(Source("runs INDEXED BY runs_of_all"))
    if run_filter.provider_run_id is not None:
        same = Condition("runs.provider_run_id = ?", (run_filter.provider_run_id,))
        sources.append(Source("runs INDEXED BY runs_of_provider", (same,)))
    return sources


def _source_by_tag(client: str | None, tag: str) -> Source:
    index = "run_tags_of_all" if client is None else "sqlite_autoindex_run_tags_1"
    ensured = (*([] if client is None else [_is_of(client)]), Condition("place.tag = ?", (tag,)))
    join = "CROSS JOIN runs ON runs.number = place.run"
    return Source(f"run_tags AS place INDEXED BY {index}", ensured, place="place", join=join, tag=tag)


def _is_of(client: str) -> Condition:
    return Condition("{place}.client = ?", (client,))
