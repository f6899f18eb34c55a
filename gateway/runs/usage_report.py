"""Report on usage: the sums of the rows that meet conditions, in groups."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta

from gateway.clock import Clock
from gateway.runs.usage import DAY
from gateway.store.usage import COLUMNS, Sums, UsageKind, UsageRow, UsageStore

PERIODS = ("day", "week", "month")
VALUES = ("client", "team", "key", "workflow", "provider", "api", "outcome", "certainty", "tag")
"""What can be grouped by and selected, besides periods."""
WITH_TAG = ("client", "team", "outcome", "certainty", "tag")
"""What can be combined with tags."""
OUTCOMES = ("succeeded", "failed", "unknown", "not_run")
CERTAINTIES = ("none", "spent", "unknown")
MAX_GROUPS = 10_000
_EPOCH = date(1970, 1, 1)


class TooManyGroups(Exception):
    """The report would have more than MAX_GROUPS rows."""


@dataclass(frozen=True, slots=True)
class UsageQuery:
    """Days, both included; names of PERIODS and VALUES to group by; for some of VALUES the texts that a row may have.

    With a tag among them, all others are of WITH_TAG, and a run counts once for each of its tags.
    """

    first: date
    last: date
    group_by: tuple[str, ...] = ()
    conditions: Mapping[str, frozenset[str]] = field(default_factory=dict)

    @property
    def kind(self) -> UsageKind:
        """The rows that the report sums up."""
        return UsageKind.TAGS if "tag" in {*self.group_by, *self.conditions} else UsageKind.RUNS


@dataclass(frozen=True, slots=True)
class Group:
    """A row of a report; `values` are those of `UsageQuery.group_by`. Amounts are in micros."""

    values: tuple[str, ...]
    runs: int
    spent: int
    unknown: int


def today(clock: Clock) -> date:
    """Return the day in UTC."""
    return clock.now().astimezone(UTC).date()


async def report(store: UsageStore, query: UsageQuery, clock: Clock) -> list[Group]:
    """Return the groups, in ascending order. Raises TooManyGroups, StoreUnavailable.

    Other tasks run between parts of the days.
    """
    groups: dict[tuple[str, ...], Sums] = {}
    first, last = (query.first - _EPOCH).days, (query.last - _EPOCH).days
    for day in range(first, last + 1):  # one at a time: 2000 rows take some milliseconds
        rows = await store.read(query.kind, day, day)
        for number, row in enumerate(rows):
            for values, sums in _parts(row, query):
                before = groups.get(values, (0, 0, 0))
                groups[values] = before[0] + sums[0], before[1] + sums[1], before[2] + sums[2]
            if number % 1000 == 0:
                await clock.sleep(0)
        if len(groups) > MAX_GROUPS:
            raise TooManyGroups
    return [Group(values, *sums) for values, sums in sorted(groups.items()) if any(sums)]


def total(groups: list[Group]) -> Group:
    """Return the sum of all groups."""
    return Group((), sum(g.runs for g in groups), sum(g.spent for g in groups), sum(g.unknown for g in groups))


def _parts(row: UsageRow, query: UsageQuery) -> Iterator[tuple[tuple[str, ...], Sums]]:
    """Yield the groups of a row with what it adds to each: nothing if it does not meet the conditions."""
    values = dict(zip(COLUMNS[query.kind], row.values, strict=True))
    certainties = "certainty" in query.group_by or "certainty" in query.conditions
    for certainty, sums in _by_certainty(row, values["outcome"]) if certainties else (("", _sums(row)),):
        values["certainty"] = certainty
        if all(values[name] in wanted for name, wanted in query.conditions.items()):
            yield tuple(_PERIODS[name](row.day) if name in _PERIODS else values[name] for name in query.group_by), sums


def _sums(row: UsageRow) -> Sums:
    return row.runs, row.spent, row.unknown


def _by_certainty(row: UsageRow, outcome: str) -> Iterator[tuple[str, Sums]]:
    """Split a row: its runs by their outcome, each amount by its own certainty."""
    of_runs = {"unknown": "unknown", "not_run": "none"}.get(outcome, "spent")
    for certainty in CERTAINTIES:
        sums = (
            row.runs if certainty == of_runs else 0,
            row.spent if certainty == "spent" else 0,
            row.unknown if certainty == "unknown" else 0,
        )
        if any(sums):
            yield certainty, sums


def _day(day: int) -> str:
    return datetime.fromtimestamp(day * DAY, UTC).date().isoformat()


def _week(day: int) -> str:
    year, week, _ = (_EPOCH + timedelta(days=day)).isocalendar()
    return f"{year}-W{week:02d}"


def _month(day: int) -> str:
    return _day(day)[:7]


_PERIODS: Mapping[str, Callable[[int], str]] = {"day": _day, "week": _week, "month": _month}
