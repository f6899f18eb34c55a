"""SQLite store: durability through kill -9, full disks and locks; group commit."""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import sqlite3
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.clock import SystemClock
from gateway.store.contract import StoreUnavailable
from gateway.store.history import SuccessRecord
from gateway.store.records import FinalState, IdempotencyKey, IdempotencyRecord, Phase, StoredRun
from gateway.store.run_filter import RunFilter
from gateway.store.sqlite.store import SqliteStore
from gateway.store.usage import RunUsage, UsageKind
from tests.store.crash_writer import acknowledged_final_state, acknowledged_key, acknowledged_run
from tests.store.samples import NOW, SAMPLE_FINAL_STATE, SAMPLE_KEY, SAMPLE_RUN, listed, new_run, new_run_with_callback
from tests.support.process import GatewayProcess

ROUNDS = 20
MAX_LINES = 400  # of a round: a fraction of a second


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    """Empty store with a short lock timeout."""
    made = SqliteStore(tmp_path / "store.db", SystemClock(), busy_timeout=0.05)
    await made.open()
    yield made
    await made.close()


def start_writer(directory: Path, path: Path, name: str) -> GatewayProcess:
    """Start a process that writes to the store at `path`; its output goes to `directory`."""
    directory.mkdir()
    command = [sys.executable, "-m", "tests.store.crash_writer", str(path), name]
    return GatewayProcess(command, directory, {}, fork=True)


async def events_until_killed(directory: Path, path: Path, name: str, lines: int) -> list[tuple[str, int]]:
    """Start a process and kill it after this number of events; returns all its events."""
    writer = start_writer(directory, path, name)
    while writer.stdout.count("\n") < lines:
        assert writer.exit_code is None, writer.stderr
        await asyncio.sleep(0.005)
    await writer.kill()
    whole = [line.split() for line in writer.stdout.splitlines(keepends=True) if line.endswith("\n")]
    return [(word, int(number)) for word, number in whole]


async def confirmed(store: SqliteStore, name: str, said: Iterable[tuple[str, int]]) -> list[tuple[str, int]]:
    """Return the acknowledged operations that are in the store."""
    held = []
    for word, number in said:
        run, claim = (
            await store.get_run(f"{name}-{number}"),
            await store.get_idempotency_record("checkout", f"{name}-{number}"),
        )
        if run is not None and claim is not None and _is_stored(word, run, claim, number):
            held.append((word, number))
    return held


def _is_stored(word: str, run: StoredRun, claim: IdempotencyRecord, number: int) -> bool:
    name = run.id.partition("-")[0]
    if run.order != acknowledged_run(name, number).order or claim.key != acknowledged_key(name, number):
        return False
    if word == "finished":
        return run.phase is Phase.DONE and claim.response == acknowledged_final_state(name, number).response
    return run.phase >= (Phase.SENDING if word == "sending" else Phase.QUEUED)


@pytest.mark.process
async def test_acknowledged_writes_survive_kill_9(tmp_path: Path) -> None:
    """R44, R47, R48: twenty processes on one file, each killed at a random moment."""
    chance, path = random.Random(4), tmp_path / "store.db"
    rounds = {
        name: await events_until_killed(tmp_path / name, path, name, chance.randint(1, MAX_LINES))
        for name in (f"p{number}" for number in range(ROUNDS))
    }
    store = SqliteStore(path, SystemClock())
    await store.open()
    for name, said in rounds.items():
        assert said == await confirmed(store, name, said)
    finished = {f"{name}-{number}" for name, said in rounds.items() for word, number in said if word == "finished"}
    adopted = await store.adopt("heir", now_at=NOW, until_at=NOW + 1, limit=100_000)
    assert set() == finished & {run.id for run in adopted}
    assert finished <= {
        each.run_id for each in await store.take_due_callbacks(now_at=NOW + 1e6, until_at=NOW + 2e6, limit=100_000)
    }
    await store.close()


async def _seconds(work: Awaitable[object]) -> float:
    began = time.perf_counter()
    await work
    return time.perf_counter() - began


async def _one_by_one(store: SqliteStore, runs: Iterable[StoredRun]) -> None:
    for run in runs:
        await store.create_run(run, None)


async def _concurrently(store: SqliteStore, runs: Iterable[StoredRun]) -> None:
    await asyncio.gather(*(store.create_run(run, None) for run in runs))


async def test_group_commit_is_faster_than_one_by_one(store: SqliteStore) -> None:
    """Best of three alternating rounds each."""
    serial, parallel = [], []
    for number in range(0, 1200, 400):
        serial.append(await _seconds(_one_by_one(store, [new_run(number + n) for n in range(200)])))
        parallel.append(await _seconds(_concurrently(store, [new_run(number + n) for n in range(200, 400)])))
    assert min(parallel) * 1.5 < min(serial)


async def test_a_hundred_at_once_wait_for_a_few_commits(store: SqliteStore) -> None:
    statements: list[str] = []
    assert store._open_store is not None  # only its own connection sees its commits
    store._open_store.db.set_trace_callback(statements.append)
    await _concurrently(store, [new_run(number) for number in range(100)])
    assert 1 <= statements.count("COMMIT") <= 5
    assert 100 == len(await listed(store, RunFilter("checkout", limit=200)))


async def test_a_full_disk_is_unavailable_and_nothing_is_lost(store: SqliteStore) -> None:
    """R54: refused with a fixed text; stored data can be read, and writes succeed once there is space."""
    await store.create_run(SAMPLE_RUN, SAMPLE_KEY)
    pages = await _pragma(store, "page_count")
    await _pragma(store, f"max_page_count = {pages}")
    refused = await _refusal(store.create_run(new_run(2, order=b"x" * 100_000), IdempotencyKey("checkout", "2", b"")))
    assert ("the disk is full", None) == (str(refused), refused.__cause__)
    assert SAMPLE_RUN == await store.get_run(SAMPLE_RUN.id)
    assert (None, None) == (await store.get_run("run_2"), await store.get_idempotency_record("checkout", "2"))
    await _pragma(store, "max_page_count = 1000000")
    assert await store.create_run(new_run(2, order=b"x" * 100_000), IdempotencyKey("checkout", "2", b"")) is None
    await store.ping()


async def test_writes_that_fit_are_kept_beside_one_that_does_not(store: SqliteStore) -> None:
    """A large write that fails on a full disk does not fail others of its group commit."""
    await store.create_run(new_run_with_callback(), SAMPLE_KEY)
    await _pragma(store, f"max_page_count = {await _pragma(store, 'page_count') + 5}")
    small, large = new_run(2), new_run(3, order=b"x" * 1_000_000)
    kept, refused, ended = await asyncio.gather(
        store.create_run(small, None),
        store.create_run(large, None),
        store.finish("run_1", SAMPLE_FINAL_STATE),
        return_exceptions=True,
    )
    assert (None, True) == (kept, ended)
    assert isinstance(refused, StoreUnavailable)
    assert small == await store.get_run("run_2")
    assert await store.get_run("run_3") is None


async def test_while_another_program_writes_it_is_unavailable_and_can_be_read(
    store: SqliteStore, tmp_path: Path
) -> None:
    """R54: for the duration of the lock, not once per caller."""
    await store.create_run(SAMPLE_RUN, None)
    other = sqlite3.connect(tmp_path / "store.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    refusals = await asyncio.gather(*(_refusal(store.create_run(new_run(number), None)) for number in range(2, 50)))
    assert {"another program holds the file"} == {str(refusal) for refusal in refusals}
    assert "another program holds the file" == str(await _refusal(store.ping()))
    assert SAMPLE_RUN == await store.get_run(SAMPLE_RUN.id)
    other.execute("ROLLBACK")
    other.close()
    assert await store.create_run(new_run(2), None) is None


async def test_closed_it_is_one_file(store: SqliteStore, tmp_path: Path) -> None:
    """The write-ahead log is merged into the file, so that a copy of the file is a copy of the store."""
    await store.create_run(SAMPLE_RUN, None)
    assert SAMPLE_RUN == await store.get_run(SAMPLE_RUN.id)
    await store.close()
    assert ["store.db", "store.db.lock"] == sorted(await asyncio.to_thread(os.listdir, tmp_path))


async def _usage_of_day(store: SqliteStore) -> dict[str, tuple[int, int, int]]:
    rows = await store.usage.read(UsageKind.RUNS, 0, 0)
    return {row.values[-1]: (row.runs, row.spent, row.unknown) for row in rows if row.runs}


async def test_the_ends_of_one_commit_are_counted_together(store: SqliteStore) -> None:
    """A revision replaces an end of the same commit; a change that raises is counted as little as it is stored."""

    def end(outcome: str, spent: int = 0, unknown: int = 0) -> FinalState:
        usage = RunUsage(0, "checkout", "triage", "studio", "run", outcome, spent=spent, unknown=unknown)
        return replace(SAMPLE_FINAL_STATE, status=outcome, usage=usage)

    await asyncio.gather(*(store.create_run(new_run(number), None) for number in range(1, 6)))
    ends = [store.finish(f"run_{number}", end("succeeded", spent=number)) for number in (1, 2, 3)]
    ends += [store.finish("run_4", end("unknown", unknown=7)), store.revise("run_4", end("succeeded", spent=4))]
    assert [True] * 5 == await asyncio.gather(*ends)
    assert {"succeeded": (4, 10, 0)} == await _usage_of_day(store)

    broken = replace(end("succeeded", spent=100), document="\ud800")  # type: ignore[arg-type]  # not to be bound
    ends = [
        store.finish("run_5", broken),
        store.revise("run_9", end("succeeded")),
        store.finish("run_5", end("failed")),
    ]
    results = await asyncio.gather(*ends, return_exceptions=True)
    assert [UnicodeEncodeError, bool, bool] == [type(result) for result in results]
    assert {"succeeded": (4, 10, 0), "failed": (1, 0, 0)} == await _usage_of_day(store)


async def test_queued_changes_are_committed_before_closing(store: SqliteStore) -> None:
    waiting = [asyncio.ensure_future(store.create_run(new_run(number), None)) for number in range(50)]
    await asyncio.sleep(0)
    await store.close()
    assert [None] * 50 == await asyncio.gather(*waiting)
    await store.open()
    assert 50 == len(await listed(store, RunFilter("checkout", limit=100)))


async def _pragma(store: SqliteStore, pragma: str) -> int:
    """Read or set a pragma on the writer's connection, to which a page limit belongs."""
    assert store._open_store is not None
    return int(await store._open_store.writer.execute(lambda db: db.execute(f"PRAGMA {pragma}").fetchone()[0]))


async def _refusal(work: Awaitable[object]) -> StoreUnavailable:
    with pytest.raises(StoreUnavailable) as refused:
        await work
    return refused.value


@pytest.mark.parametrize("sizes", list(itertools.permutations((2, 1_000, 1_001, 9_000), 2)))
async def test_a_document_of_any_size_replaces_one_of_any_size(store: SqliteStore, sizes: tuple[int, int]) -> None:
    """A small document is in the row of its run, a large one has a row of its own."""
    first, second = (b"%0*d" % (size, size) for size in sizes)
    await store.create_run(SAMPLE_RUN, None)
    assert await store.finish(SAMPLE_RUN.id, replace(SAMPLE_FINAL_STATE, status="unknown", document=first))
    assert first == await store.get_document(SAMPLE_RUN.id)
    assert await store.revise(SAMPLE_RUN.id, replace(SAMPLE_FINAL_STATE, document=second))
    assert second == await store.get_document(SAMPLE_RUN.id)
    whole = await store.get_run(SAMPLE_RUN.id)
    assert whole is not None
    assert (second, "succeeded") == (whole.document, whole.status)


@pytest.mark.parametrize("alone", [False, True])
async def test_successes_of_which_one_cannot_be_counted_are_not_recorded(store: SqliteStore, *, alone: bool) -> None:
    """They are written with their usage in one transaction: those of a segment, and those of a client with few."""
    usage = RunUsage(int(NOW // 86_400), "checkout", "triage", "studio", "run", "succeeded", spent=1)
    record = SuccessRecord(NOW, "", "checkout", "triage", "studio", NOW + 60, 1, None, NOW + 5, b"{}", b"", usage)
    records = [record._replace(id=f"run_{number}") for number in range(40)]
    last = record._replace(id="run_40", client="other" if alone else "checkout")
    with pytest.raises(OverflowError):
        await store.add_successes([*records, last._replace(usage=usage._replace(spent=2**70))])
    assert await listed(store, RunFilter(None)) == []
    assert await store.usage.read(UsageKind.RUNS, usage.day, usage.day) == []
    await store.add_successes([*records, last])
    assert [row.runs for row in await store.usage.read(UsageKind.RUNS, usage.day, usage.day)] == [41]
