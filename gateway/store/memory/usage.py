"""Usage in the memory store."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from typing_extensions import override

from gateway.store.usage import (
    MAX_ROWS,
    RunUsage,
    Sums,
    UsageBatch,
    UsageKey,
    UsageKind,
    UsageRow,
    UsageStore,
    add_up,
    add_up_counts,
    decode_row,
)


class MemoryUsage(UsageStore):
    """Sums by day and kind, then by values. `require_open` raises StoreUnavailable if the store is closed."""

    def __init__(self, require_open: Callable[[], None]) -> None:
        self._require_open = require_open
        self._days: dict[tuple[int, int], dict[str, Sums]] = {}
        self._counted: dict[str, RunUsage] = {}  # of runs that ended as unknown, and may be revised
        self._numbers: dict[str, int] = {}  # by writer

    def count(self, run_id: str, usage: RunUsage | None) -> None:
        """Count the end of a run, in place of its earlier end."""
        if usage is None:
            return
        if (earlier := self._counted.pop(run_id, None)) is not None:
            self._subtract(earlier)
        self._add(add_up((usage,)).items())
        if usage.outcome == "unknown":
            self._counted[run_id] = usage

    def count_many(self, counts: Mapping[RunUsage, int]) -> None:
        """Count runs that succeeded, by their usage."""
        self._add(add_up_counts(counts).items())

    def forget(self, run_id: str) -> None:
        """Forget that a run may be revised: it is deleted."""
        self._counted.pop(run_id, None)

    @override
    async def add(self, batch: UsageBatch, *, now_at: float) -> None:
        self._require_open()
        if self._numbers.get(batch.writer, -1) < batch.number:
            self._numbers[batch.writer] = batch.number
            self._add(batch.usage)

    @override
    async def read(self, kind: UsageKind, first_day: int, last_day: int) -> list[UsageRow]:
        self._require_open()
        days = ((day, self._days.get((day, kind.value), {})) for day in range(first_day, last_day + 1))
        return [decode_row(day, key, sums) for day, rows in days for key, sums in rows.items()]

    @override
    async def purge(self, before_day: int) -> int:
        self._require_open()
        old = [place for place in self._days if place[0] < before_day]
        return sum(len(self._days.pop(place)) for place in old)

    def _add(self, usage: Iterable[tuple[UsageKey, Sums]]) -> None:
        for (day, kind, key, others), sums in usage:
            rows = self._days.setdefault((day, kind), {})
            place = key if key in rows or len(rows) < MAX_ROWS else others
            rows[place] = _sum(rows.get(place, (0, 0, 0)), sums)

    def _subtract(self, usage: RunUsage) -> None:
        for (day, kind, key, others), (runs, spent, unknown) in add_up((usage,)).items():
            rows = self._days.get((day, kind), {})
            place = key if key in rows else others
            if place in rows:
                rows[place] = _sum(rows[place], (-runs, -spent, -unknown))


def _sum(one: Sums, other: Sums) -> Sums:
    return one[0] + other[0], one[1] + other[1], one[2] + other[2]
