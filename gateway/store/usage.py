"""Usage in a store: how many runs there were, and what they cost, by UTC day and by what the runs have in common.

The usage of a run is written in the transaction that writes its record, so that the sum of the records and the usage
are the same whatever happens. It counts for the day on which the run was created. Amounts are in micros; `spent` was
paid, `unknown` may have been paid.

The rows of a day are bounded: of what clients choose, the values that come first each have their own row, and all
others share one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple, Protocol, TypeAlias

import orjson

OTHERS = "(all others)"
"""Workflow, key or tag of the rows that are shared. Aliases, keys and tags have no spaces."""
MAX_ROWS = 2_000
"""Rows of a day and kind before others share one; those are as many as the configuration allows."""
_MAX_NAME = 100  # characters of the name of a workflow that is not configured


class UsageKind(IntEnum):
    """What a row counts: runs by all that they have in common, or runs by a tag, of which a run may have several."""

    RUNS = 0
    TAGS = 1


COLUMNS = {
    UsageKind.RUNS: ("client", "team", "key", "workflow", "provider", "api", "outcome"),
    UsageKind.TAGS: ("client", "team", "tag", "outcome"),
}
"""Names of the values of a row, in their order."""


class RunUsage(NamedTuple):
    """What a run that has ended adds to the usage. `day`: days since 1970; `team` and `key`: "" if it has none."""

    day: int
    client: str
    workflow: str
    provider: str
    api: str
    outcome: str
    team: str = ""
    key: str = ""
    tags: tuple[str, ...] = ()
    spent: int = 0
    unknown: int = 0


@dataclass(frozen=True, slots=True)
class UsageRow:
    """Sums of a row; `values` are those of `COLUMNS`."""

    day: int
    values: tuple[str, ...]
    runs: int
    spent: int
    unknown: int


UsageKey: TypeAlias = tuple[int, int, str, str]
"""Of a row: its day, its kind, its values as JSON, and the values of the row that takes its place if there are many."""
Sums: TypeAlias = tuple[int, int, int]
"""Runs, spent, unknown."""


@dataclass(frozen=True, slots=True)
class UsageBatch:
    """Usage without records. `writer` numbers its batches upwards: a batch that is repeated is not counted twice."""

    writer: str
    number: int
    usage: Sequence[tuple[UsageKey, Sums]]


class UsageStore(Protocol):
    """The usage in a store. Every method may raise `StoreUnavailable`."""

    async def add(self, batch: UsageBatch, *, now_at: float) -> None:
        """Add usage of runs without records, unless the store has a batch of this writer with this or a later number.

        A repetition is recognized for a day.
        """

    async def read(self, kind: UsageKind, first_day: int, last_day: int) -> list[UsageRow]:
        """Return the rows of these days, both included, in any order."""

    async def purge(self, before_day: int) -> int:
        """Delete a batch of the rows of the days before this one; returns their number, 0 if there are no more."""


class KeepsUsage(Protocol):
    """A store that has usage."""

    usage: UsageStore


def add_up(usages: Iterable[RunUsage]) -> dict[UsageKey, Sums]:
    """Return the sums of the rows that these runs belong to."""
    return add_up_counts(Counter(usages))


def add_up_counts(counts: Mapping[RunUsage, int]) -> dict[UsageKey, Sums]:
    """Return the sums of rows, of how many runs have each usage."""
    found: dict[UsageKey, Sums] = {}
    for usage, count in counts.items():
        sums = count, count * usage.spent, count * usage.unknown
        for key in _keys(usage):
            before = found.get(key)
            found[key] = sums if before is None else (before[0] + count, before[1] + sums[1], before[2] + sums[2])
    return found


def _keys(usage: RunUsage) -> list[UsageKey]:
    """Return the rows of a run."""
    day, client, workflow, provider, api, outcome, team, key, tags, _, _ = usage
    values = client, team, key, workflow[:_MAX_NAME], provider, api, outcome
    others = client, team, key and OTHERS, OTHERS, provider, api, outcome
    keys = [(day, UsageKind.RUNS.value, _encode(values), _encode(others))]
    if tags:
        others_of_tags = _encode((client, team, OTHERS, outcome))
        keys += ((day, UsageKind.TAGS.value, _encode((client, team, tag, outcome)), others_of_tags) for tag in tags)
    return keys


def _encode(values: tuple[str, ...]) -> str:
    return orjson.dumps(values).decode()


def encode_counted(usage: RunUsage) -> bytes:
    """Encode what a run has added, so that it can be subtracted: JSON of texts, which keep numbers exact in Lua."""
    keys = [(str(day), str(kind), key, others) for day, kind, key, others in _keys(usage)]
    return orjson.dumps((keys, str(usage.spent), str(usage.unknown)))


def decode_counted(encoded: bytes) -> tuple[list[UsageKey], Sums]:
    """Decode what a run has added: its rows, and what each of them got."""
    keys, spent, unknown = orjson.loads(encoded)
    return [(int(day), int(kind), key, others) for day, kind, key, others in keys], (1, int(spent), int(unknown))


def decode_row(day: int, key: str, sums: Sums) -> UsageRow:
    """Decode a row; `key`: its values as JSON."""
    return UsageRow(day, tuple(orjson.loads(key)), *sums)
