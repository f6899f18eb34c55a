"""Report on usage: what it keeps from other tasks."""

from __future__ import annotations

from datetime import date

from typing_extensions import override

from gateway.runs.usage_report import UsageQuery, report
from gateway.store.memory.usage import MemoryUsage
from gateway.store.usage import MAX_ROWS, RunUsage, UsageBatch, UsageKind, UsageRow, add_up
from tests.support.clock import ManualClock

DAY = 20_000
"""Of October 2024, in days since 1970."""


class CountingUsage(MemoryUsage):
    """Usage in memory, with the number of rows of each read: a store decodes them without a pause."""

    def __init__(self) -> None:
        super().__init__(lambda: None)
        self.reads: list[int] = []

    @override
    async def read(self, kind: UsageKind, first_day: int, last_day: int) -> list[UsageRow]:
        rows = await super().read(kind, first_day, last_day)
        self.reads.append(len(rows))
        return rows


async def test_a_report_reads_no_more_at_once_than_the_rows_of_a_day() -> None:
    """A client with many workflows could hold up all other requests for a tenth of a second with each report."""
    store = CountingUsage()
    for day in range(DAY, DAY + 5):
        usage = [RunUsage(day, "one", f"w{number}", "studio", "run", "succeeded") for number in range(MAX_ROWS)]
        batch = UsageBatch("writer", day, list(add_up(usage).items()))
        await store.add(batch, now_at=DAY * 86_400.0)
    first = date(2024, 10, 4)
    [group] = await report(store, UsageQuery(first, first.replace(day=8)), ManualClock())
    assert 5 * MAX_ROWS == group.runs == sum(store.reads)
    assert max(store.reads) <= MAX_ROWS
