"""The SQLite store keeps what it promised: through kill -9, full disks and locks; and it keeps it fast."""

from __future__ import annotations

import asyncio
import os
import random
import sqlite3
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Iterable
from pathlib import Path

import pytest

from gateway.clock import SystemClock
from gateway.store.contract import Claim, Filter, Key, Phase, StoredRun, StoreUnavailable
from gateway.store.sqlite import SqliteStore
from tests.store.contract import FINISH, KEY, NOW, RUN, a_run, called_back
from tests.store.promises import promised_end, promised_key, promised_run

ROOT = Path(__file__).parent.parent.parent
ROUNDS = 20
MOST_LINES = 400  # of a round: a fraction of a second


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    """A store that holds nothing, and waits hardly at all for others' locks."""
    made = SqliteStore(tmp_path / "store.db", SystemClock(), patience=0.05)
    await made.open()
    yield made
    await made.close()


def promises_until_killed(path: Path, name: str, lines: int) -> list[tuple[str, int]]:
    """Start a process, kill it when it has said so much, and return all that it said."""
    command = [sys.executable, "-m", "tests.store.promises", str(path), name]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        said = [process.stdout.readline() for _ in range(lines)]
        process.kill()
        said += process.stdout.readlines()
    whole = [line.split() for line in said if line.endswith("\n")]
    assert len(whole) >= lines
    return [(word, int(number)) for word, number in whole]


async def kept(store: SqliteStore, name: str, said: Iterable[tuple[str, int]]) -> list[tuple[str, int]]:
    """Those of the promises that hold."""
    held = []
    for word, number in said:
        run, claim = await store.run(f"{name}-{number}"), await store.claim("checkout", f"{name}-{number}")
        if run is not None and claim is not None and _holds(word, run, claim, number):
            held.append((word, number))
    return held


def _holds(word: str, run: StoredRun, claim: Claim, number: int) -> bool:
    name = run.id.partition("-")[0]
    if run.order != promised_run(name, number).order or claim.key != promised_key(name, number):
        return False
    if word == "finished":
        return run.phase is Phase.DONE and claim.answer == promised_end(name, number).answer
    return run.phase >= (Phase.SENDING if word == "sending" else Phase.QUEUED)


async def test_what_was_promised_survives_kill_9(tmp_path: Path) -> None:
    """R44, R47, R48: twenty processes on one file, each killed at a random moment; the next one goes on at once."""
    chance, path = random.Random(4), tmp_path / "store.db"
    rounds = {
        f"p{number}": promises_until_killed(path, f"p{number}", chance.randint(1, MOST_LINES))
        for number in range(ROUNDS)
    }
    store = SqliteStore(path, SystemClock())
    await store.open()
    for name, said in rounds.items():
        assert said == await kept(store, name, said)
    finished = {f"{name}-{number}" for name, said in rounds.items() for word, number in said if word == "finished"}
    adopted = await store.adopt("heir", now_at=NOW, until_at=NOW + 1, limit=100_000)
    assert set() == finished & {run.id for run in adopted}
    assert finished <= {each.run_id for each in await store.due(now_at=NOW + 1e6, until_at=NOW + 2e6, limit=100_000)}
    await store.close()


async def _seconds(work: Awaitable[object]) -> float:
    began = time.perf_counter()
    await work
    return time.perf_counter() - began


async def _one_by_one(store: SqliteStore, runs: Iterable[StoredRun]) -> None:
    for run in runs:
        await store.begin(run, None)


async def _together(store: SqliteStore, runs: Iterable[StoredRun]) -> None:
    await asyncio.gather(*(store.begin(run, None) for run in runs))


async def test_committing_together_is_faster_than_one_by_one(store: SqliteStore) -> None:
    """Side by side, the better of three rounds each."""
    serial, parallel = [], []
    for number in range(0, 1200, 400):
        serial.append(await _seconds(_one_by_one(store, [a_run(number + n) for n in range(200)])))
        parallel.append(await _seconds(_together(store, [a_run(number + n) for n in range(200, 400)])))
    assert min(parallel) * 1.5 < min(serial)


async def test_a_hundred_at_once_wait_for_a_few_commits(store: SqliteStore) -> None:
    statements: list[str] = []
    assert store._opened is not None  # only its own connection sees its commits
    store._opened.db.set_trace_callback(statements.append)
    await _together(store, [a_run(number) for number in range(100)])
    assert 1 <= statements.count("COMMIT") <= 5
    assert 100 == len(await store.runs(Filter("checkout", limit=200)))


async def test_a_full_disk_is_unavailable_and_nothing_is_lost(store: SqliteStore) -> None:
    """R54: refused in our words; what was kept before can be read, and with space it goes on."""
    await store.begin(RUN, KEY)
    pages = await _pragma(store, "page_count")
    await _pragma(store, f"max_page_count = {pages}")
    refused = await _refusal(store.begin(a_run(2, order=b"x" * 100_000), Key("checkout", "2", b"")))
    assert ("the disk is full", None) == (str(refused), refused.__cause__)
    assert RUN == await store.run(RUN.id)
    assert (None, None) == (await store.run("run_2"), await store.claim("checkout", "2"))
    await _pragma(store, "max_page_count = 1000000")
    assert await store.begin(a_run(2, order=b"x" * 100_000), Key("checkout", "2", b"")) is None
    await store.ping()


async def test_what_still_fits_is_kept_beside_what_does_not(store: SqliteStore) -> None:
    """One caller's megabyte on a full disk is not the problem of those that commit with it."""
    await store.begin(called_back(), KEY)
    await _pragma(store, f"max_page_count = {await _pragma(store, 'page_count') + 5}")
    small, large = a_run(2), a_run(3, order=b"x" * 1_000_000)
    kept, refused, ended = await asyncio.gather(
        store.begin(small, None), store.begin(large, None), store.finish("run_1", FINISH), return_exceptions=True
    )
    assert (None, True) == (kept, ended)
    assert isinstance(refused, StoreUnavailable)
    assert small == await store.run("run_2")
    assert await store.run("run_3") is None


async def test_while_another_program_writes_it_is_unavailable_and_can_be_read(
    store: SqliteStore, tmp_path: Path
) -> None:
    """R54: for as long as that, and not for each caller in turn."""
    await store.begin(RUN, None)
    other = sqlite3.connect(tmp_path / "store.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    refusals = await asyncio.gather(*(_refusal(store.begin(a_run(number), None)) for number in range(2, 50)))
    assert {"another program holds the file"} == {str(refusal) for refusal in refusals}
    assert "another program holds the file" == str(await _refusal(store.ping()))
    assert RUN == await store.run(RUN.id)
    other.execute("ROLLBACK")
    other.close()
    assert await store.begin(a_run(2), None) is None


async def test_closed_it_is_one_file(store: SqliteStore, tmp_path: Path) -> None:
    """Nothing holds it open: the log was emptied into it, so that a copy of the file is a copy of the store."""
    await store.begin(RUN, None)
    assert RUN == await store.run(RUN.id)
    await store.close()
    assert ["store.db", "store.db.lock"] == sorted(await asyncio.to_thread(os.listdir, tmp_path))


async def test_what_waits_is_committed_before_it_closes(store: SqliteStore) -> None:
    waiting = [asyncio.create_task(store.begin(a_run(number), None)) for number in range(50)]
    await asyncio.sleep(0)
    await store.close()
    assert [None] * 50 == await asyncio.gather(*waiting)
    await store.open()
    assert 50 == len(await store.runs(Filter("checkout", limit=100)))


async def _pragma(store: SqliteStore, pragma: str) -> int:
    """Ask or set it where the store writes: a limit of pages belongs to one connection."""
    assert store._opened is not None
    return int(await store._opened.writer.run(lambda db: db.execute(f"PRAGMA {pragma}").fetchone()[0]))


async def _refusal(work: Awaitable[object]) -> StoreUnavailable:
    with pytest.raises(StoreUnavailable) as refused:
        await work
    return refused.value
