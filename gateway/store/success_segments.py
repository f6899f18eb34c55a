"""Segments: many records of successes of one client as one value, which costs a store a twentieth of single runs.

`records` has a line for each run, in the order of their positions: a JSON array, a tab, and its details. `timelines`
are in the same order, separated by NUL. `hashes` are the CRC-32 of each id and of each provider's id: a segment that
may have one is found by them, without an index of runs.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from struct import pack
from typing import Protocol, TypeVar
from zlib import crc32

import orjson

from gateway.store.history import SuccessRecord
from gateway.store.records import RunOverview, RunPage
from gateway.store.run_filter import Position, RunFilter, details_fragments, details_match
from gateway.store.usage import RunUsage

MIN_RECORDS = 32
"""Records of a segment, at least: fewer are stored as single runs, so that a store has few segments."""

MAX_SPAN = 60.0
"""Seconds between the creations of the oldest and the newest run; bounds the number of segments that overlap."""


@dataclass(frozen=True, slots=True)
class SuccessSegment:
    """Records of one client. `oldest_at`, `newest_at` are of creations, `ended_at` is the latest end.

    `first_id`, `last_id`: the lowest and the highest id. `usages`: what is counted if it is added, with the number of
    its runs; a segment that was read has none.
    """

    client: str
    count: int
    oldest_at: float
    newest_at: float
    ended_at: float
    first_id: str
    last_id: str
    records: bytes
    timelines: bytes
    hashes: bytes
    usages: Mapping[RunUsage, int] = field(default_factory=dict, compare=False)


class Place(Protocol):
    """What a search knows of a segment before its records are read."""

    @property
    def client(self) -> str:
        """Its client."""

    @property
    def newest_at(self) -> float:
        """The latest creation of a run."""


PlaceT = TypeVar("PlaceT", bound=Place)


def split(records: Sequence[SuccessRecord]) -> tuple[list[SuccessSegment], list[SuccessRecord]]:
    """Return segments, and the records that are in none: of clients with few, and of runs that took very long."""
    of_clients: dict[str, list[SuccessRecord]] = {}
    for record in records:
        of_clients.setdefault(record.client, []).append(record)
    segments: list[SuccessSegment] = []
    rest: list[SuccessRecord] = []
    for group in of_clients.values():
        group.sort()
        first = bisect_left(group, (group[-1].created_at - MAX_SPAN,))
        segment = encode(group[first:]) if len(group) - first >= MIN_RECORDS else None
        if segment is None:
            rest += group
        else:
            segments.append(segment)
            rest += group[:first]
    return segments, rest


def encode(records: Sequence[SuccessRecord]) -> SuccessSegment | None:
    """Return a segment of records in their order; None if a value has characters that separate them."""
    lines, hashes = [], []
    dumps = orjson.dumps
    for record in records:
        created_at, id_, _, workflow, provider, deadline_at, attempts, provider_run_id, ended_at, details, *_ = record
        values = (created_at, id_, workflow, provider, deadline_at, attempts, provider_run_id, ended_at)
        lines.append(b"%b\t%b" % (dumps(values), details))
        hashes.append(crc32(id_.encode()))
        if provider_run_id is not None:
            hashes.append(crc32(provider_run_id.encode()))
    ids = [record.id for record in records]
    segment = SuccessSegment(
        client=records[0].client,
        count=len(records),
        oldest_at=records[0].created_at,
        newest_at=records[-1].created_at,
        ended_at=max([record.finished_at for record in records]),
        first_id=min(ids),
        last_id=max(ids),
        records=b"\n".join(lines),
        timelines=b"\0".join([record.timeline for record in records]),
        hashes=pack(f"<{len(hashes)}I", *hashes),
        usages=Counter([record.usage for record in records if record.usage is not None]),
    )
    separators = segment.records.count(b"\n"), segment.timelines.count(b"\0")
    return segment if separators == (len(ids) - 1,) * 2 and "".join(ids).isidentifier() else None


def without_oldest(segment: SuccessSegment, count: int) -> SuccessSegment | None:
    """Return a segment without its `count` oldest runs; None if it has no others."""
    lines = zip(segment.records.split(b"\n"), segment.timelines.split(b"\0"), strict=True)
    left = [_decode(line, segment.client, timeline) for line, timeline in lines][count:]
    return encode(left) if left else None


def hash_of(text: str) -> bytes:
    """Return what `hashes` contains if a run of the segment has this id, or this provider's id."""
    return pack("<I", crc32(text.encode()))


def find(records: bytes, run_id: str) -> tuple[int, bytes] | None:
    """Return the number and the line of a run, or None."""
    wanted = b',"%b",' % run_id.encode()
    found = records.find(wanted)
    while found >= 0:
        start = records.rfind(b"\n", 0, found) + 1
        line = records[start:].partition(b"\n")[0]
        if _position_of(line)[1] == run_id:
            return records.count(b"\n", 0, start), line
        found = records.find(wanted, found + 1)
    return None


def decode_overview(line: bytes, client: str) -> RunOverview:
    """Return the run of a line."""
    return _decode(line, client).run.overview


def may_match(run_filter: RunFilter) -> bool:
    """Return False if no success without tags meets the conditions."""
    return (
        run_filter.status in {None, "succeeded"}
        and run_filter.durable is not True
        and run_filter.judged is not True
        and not (run_filter.tags or run_filter.code or run_filter.waiting_for or run_filter.retrying)
    )


def search(places: Iterable[PlaceT], load: Callable[[PlaceT], bytes], run_filter: RunFilter) -> RunPage:
    """Find runs as `Store.list_runs`, of which at least one is examined.

    `places`: the segments that may have such runs, by `newest_at`, descending. `load` returns the records of one.
    """
    upper_bound, created_from = run_filter.upper_bound, run_filter.created_from or 0.0
    sources, fragments = _source_fragments(run_filter), _fragments(run_filter)
    segments: list[tuple[str, list[bytes]]] = []  # client, and lines that are not examined yet
    opened: list[tuple[float, str, int]] = []  # position of the last line of each, ascending, and its number
    found: list[RunOverview] = []
    upcoming = iter(places)
    place = next(upcoming, None)
    created_at, run_id = upper_bound
    for _ in range(run_filter.max_examined):
        while place is not None and (not opened or place.newest_at >= opened[-1][0]):
            lines = load(place).split(b"\n")
            for fragment in sources:
                lines = [line for line in lines if fragment in line]
            del lines[bisect_left(lines, upper_bound, key=_position_of) :]
            segments.append((place.client, lines))
            _open(opened, lines, len(segments) - 1)
            place = next(upcoming, None)
        if not opened or opened[-1][0] < created_from:
            return RunPage(found)
        created_at, run_id, number = opened.pop()
        client, lines = segments[number]
        line = lines.pop()
        _open(opened, lines, number)
        if all(fragment in line for fragment in fragments) and _matches(record := _decode(line, client), run_filter):
            found.append(record.run.overview)
            if len(found) == run_filter.limit:
                return RunPage(found)
    return RunPage(found, (created_at, run_id))


def merge(one: RunPage, other: RunPage, limit: int) -> RunPage:
    """Return the newest runs of two pages; a run that is in both is that of the first."""
    if not other.runs and other.stopped_at is None:
        return one
    runs = {(run.created_at, run.id): run for run in (*other.runs, *one.runs)}
    stopped_at = max([page.stopped_at for page in (one, other) if page.stopped_at is not None], default=None)
    found = [runs[position] for position in sorted(runs, reverse=True) if stopped_at is None or position >= stopped_at]
    return RunPage(found[:limit], stopped_at if len(found) < limit else None)


def _open(opened: list[tuple[float, str, int]], lines: Sequence[bytes], number: int) -> None:
    if lines:
        insort(opened, (*_position_of(lines[-1]), number))


def _position_of(line: bytes) -> Position:
    created_at, run_id, _ = line.split(b",", 2)
    return float(created_at[1:]), run_id[1:-1].decode()


def _decode(line: bytes, client: str, timeline: bytes = b"") -> SuccessRecord:
    values, _, details = line.partition(b"\t")
    created_at, run_id, workflow, provider, deadline_at, attempts, provider_run_id, finished_at = orjson.loads(values)
    # fmt: off
    return SuccessRecord(
        created_at, run_id, client, workflow, provider, deadline_at, attempts, provider_run_id, finished_at,
        details, timeline,
    )
    # fmt: on


def _source_fragments(run_filter: RunFilter) -> list[bytes]:
    """Return texts that the line of every selected run contains; runs whose lines do not are not even examined."""
    prefix, provider_run_id = run_filter.id_prefix, run_filter.provider_run_id
    fragments = [] if prefix is None else [b',"' + prefix.encode()]
    return fragments if provider_run_id is None else [*fragments, orjson.dumps(provider_run_id)]


def _fragments(run_filter: RunFilter) -> list[bytes]:
    """Return further texts that the line of every selected run contains."""
    values = [value for value in (run_filter.workflow, run_filter.provider) if value is not None]
    return [*map(orjson.dumps, values), *details_fragments(run_filter)]


def _matches(record: SuccessRecord, run_filter: RunFilter) -> bool:
    duration = record.finished_at - record.created_at
    return (
        all(getattr(record, name) == value for name, value in run_filter.equalities.items() if name != "status")
        and record.id.startswith(run_filter.id_prefix or "")
        and (run_filter.min_duration is None or duration >= run_filter.min_duration)
        and (run_filter.max_duration is None or duration <= run_filter.max_duration)
        and details_match(record.details, run_filter)
    )
