"""Usage in SQL. Every function but the methods of `SqliteUsage` runs inside a transaction of its caller."""

from __future__ import annotations

import sqlite3
from collections.abc import Awaitable, Callable, Iterable
from typing import Protocol, TypeVar

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
    decode_counted,
    decode_row,
    encode_counted,
)

T = TypeVar("T")

_PURGE_BATCH = 1_000  # rows
_REPETITION = 86_400.0  # seconds for which a repeated batch is recognized

# A sum beyond 64 bits would fail the transaction of the run.
_ADD = """
UPDATE usage SET runs = runs + ?, spent = min(spent + ?, 9000000000000000000),
    unknown = min(unknown + ?, 9000000000000000000)
WHERE day = ? AND kind = ? AND key = ?"""

_INSERT = """
INSERT INTO usage (day, kind, key, runs, spent, unknown) VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT (day, kind, key) DO UPDATE SET runs = runs + excluded.runs,
    spent = min(spent + excluded.spent, 9000000000000000000),
    unknown = min(unknown + excluded.unknown, 9000000000000000000)"""

_IS_FULL = "SELECT 1 FROM usage WHERE day = ? AND kind = ? LIMIT 1 OFFSET ?"

_SELECT = "SELECT day, key, runs, spent, unknown FROM usage WHERE day BETWEEN ? AND ? AND kind = ?"

_PURGE = """
DELETE FROM usage WHERE (day, kind, key) IN (SELECT day, kind, key FROM usage WHERE day < ? LIMIT ?)"""

_KEEP_COUNTED = "INSERT INTO counted_usage (run, usage) VALUES (?, ?)"

_TAKE_COUNTED = "DELETE FROM counted_usage WHERE run = ? RETURNING usage"

_NUMBER_BATCH = """
INSERT INTO usage_writers (writer, number, written_at) VALUES (?, ?, ?)
ON CONFLICT (writer) DO UPDATE SET number = excluded.number, written_at = excluded.written_at
WHERE number < excluded.number"""


class Execute(Protocol):
    """Executes a function with a connection: in a transaction of its own, or on a snapshot."""

    def __call__(self, action: Callable[[sqlite3.Connection], T], /) -> Awaitable[T]:
        """Return what `action` returns. Raises StoreUnavailable."""


class SqliteUsage(UsageStore):
    """Usage in the table `usage`. `write` and `read` execute a function with a connection."""

    def __init__(self, write: Execute, read: Execute) -> None:
        self._write = write
        self._read = read

    @override
    async def add(self, batch: UsageBatch, *, now_at: float) -> None:
        await self._write(lambda db: _add_batch(db, batch, now_at))

    @override
    async def read(self, kind: UsageKind, first_day: int, last_day: int) -> list[UsageRow]:
        wanted = first_day, last_day, kind.value
        rows = await self._read(lambda db: db.execute(_SELECT, wanted).fetchall())
        return [decode_row(day, key, (runs, spent, unknown)) for day, key, runs, spent, unknown in rows]

    @override
    async def purge(self, before_day: int) -> int:
        return await self._write(lambda db: db.execute(_PURGE, (before_day, _PURGE_BATCH)).rowcount)


def add_usage(db: sqlite3.Connection, usage: Iterable[tuple[UsageKey, Sums]]) -> None:
    """Add the sums of rows."""
    for (day, kind, key, others), sums in usage:
        if db.execute(_ADD, (*sums, day, kind, key)).rowcount:
            continue
        is_full = db.execute(_IS_FULL, (day, kind, MAX_ROWS - 1)).fetchall()
        db.execute(_INSERT, (day, kind, others if is_full else key, *sums))


def count_recorded(db: sqlite3.Connection, runs: Iterable[tuple[int, RunUsage]]) -> None:
    """Count recorded runs; each is its number and its usage."""
    counted = list(runs)
    add_usage(db, add_up(usage for _, usage in counted).items())
    for number, usage in counted:
        if usage.outcome == "unknown":
            db.execute(_KEEP_COUNTED, (number, encode_counted(usage)))


class EndCounter:
    """Counts the ends of runs at the end of their transaction, because most of them are counted in the same row."""

    def __init__(self) -> None:
        self._uncounted: dict[RunUsage, int] = {}

    def begin(self) -> None:
        """Forget what an earlier transaction, which was rolled back, has not written."""
        self._uncounted = {}

    def count(self, db: sqlite3.Connection, number: int, usage: RunUsage, *, replaces: bool) -> None:
        """Count the end of the run with this number. `replaces`: it may have ended before."""
        if replaces:
            self.write(db)  # the end before may be one of these
            for (counted,) in db.execute(_TAKE_COUNTED, (number,)).fetchall():
                _subtract(db, counted)
        self._uncounted[usage] = self._uncounted.get(usage, 0) + 1
        if usage.outcome == "unknown":
            db.execute(_KEEP_COUNTED, (number, encode_counted(usage)))

    def write(self, db: sqlite3.Connection) -> None:
        """Write the sums of what was counted since `begin`."""
        if self._uncounted:
            add_usage(db, add_up_counts(self._uncounted).items())
            self._uncounted = {}


def _subtract(db: sqlite3.Connection, counted: bytes) -> None:
    """Subtract what a run has added; of days that were purged, nothing."""
    keys, (runs, spent, unknown) = decode_counted(counted)
    for day, kind, key, others in keys:
        for place in (key, others):
            if db.execute(_ADD, (-runs, -spent, -unknown, day, kind, place)).rowcount:
                break


def _add_batch(db: sqlite3.Connection, batch: UsageBatch, now_at: float) -> None:
    if db.execute(_NUMBER_BATCH, (batch.writer, batch.number, now_at)).rowcount:
        db.execute("DELETE FROM usage_writers WHERE written_at < ?", (now_at - _REPETITION,))
        add_usage(db, batch.usage)
