"""Process that writes runs to a SQLite store as fast as possible, and prints what was acknowledged, until it is killed.

    python -m tests.store.crash_writer PATH NAME

Each line is an operation and a number, printed after the call has returned: begun 7, sending 7, finished 7.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path

from gateway.clock import SystemClock
from gateway.store.records import FinalState, IdempotencyKey, Phase, StoredResponse, StoredRun
from gateway.store.sqlite.store import SqliteStore
from tests.store.samples import NOW, SAMPLE_FINAL_STATE, new_run_with_callback

CONCURRENT_WRITERS = 20


def acknowledged_run(name: str, number: int) -> StoredRun:
    """Return the run with this number of the process with this name; its lease ends in the far future."""
    return new_run_with_callback(number, id=f"{name}-{number}", owner=name, leased_until_at=NOW + 1e6)


def acknowledged_key(name: str, number: int) -> IdempotencyKey:
    """Return the Idempotency-Key of the run."""
    return IdempotencyKey("checkout", f"{name}-{number}", b"f" * 32)


def acknowledged_final_state(name: str, number: int) -> FinalState:
    """Return the final state of the run."""
    return replace(SAMPLE_FINAL_STATE, owner=name, response=StoredResponse(200, (), f"{name}-{number}".encode()))


def _report(event: str, number: int) -> None:
    sys.stdout.write(f"{event} {number}\n")
    sys.stdout.flush()


async def _write_runs(store: SqliteStore, name: str, numbers: Iterator[int]) -> None:
    for number in numbers:
        run = acknowledged_run(name, number)
        assert await store.create_run(run, acknowledged_key(name, number)) is None
        _report("begun", number)
        if number % 3:
            assert await store.advance(replace(run, phase=Phase.SENDING, status="running"))
            _report("sending", number)
        if number % 3 == 2:
            assert await store.finish(run.id, acknowledged_final_state(name, number))
            _report("finished", number)


async def main(path: str, name: str) -> None:
    """Write until the process is killed."""
    store = SqliteStore(Path(path), SystemClock())
    await store.open()
    numbers = count()
    await asyncio.gather(*(_write_runs(store, name, numbers) for _ in range(CONCURRENT_WRITERS)))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2]))
