"""Benchmark of searches in stored runs: milliseconds of `Store.list_runs`, for the first page of typical conditions.

    python -m bench.run_search [RUNS] [URL ...]     100 000 runs and SQLite by default; redis://127.0.0.1:6379/0 for a
                                                    running server, whose data with the prefix `runward:` must be absent

All runs are of one client, the worst case, and the searches are of this client and of all clients. One of 1 000 has a
rare tag, a code, a value in its metadata and a long duration; one of 100 failed, and one of 10 000 is unknown. Every
second run is not durable, but recorded in the history.

Also prints the microseconds of a record in the history, as the time to add them in groups of 500.
"""

from __future__ import annotations

import asyncio
import itertools
import statistics
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson

from gateway.clock import SystemClock
from gateway.store import factory
from gateway.store.contract import Store
from gateway.store.history import HistoryEntry, SuccessRecord
from gateway.store.records import FinalState, Phase, StoredRun
from gateway.store.run_filter import RunFilter
from gateway.store.usage import RunUsage

RUNS = 100_000
REPETITIONS = 200
_BATCH_SIZE = 2_000
_GROUP = 500  # records of the history that are added together
_RARE = 1_000  # one of so many runs
_FAILED = 100
_UNKNOWN = 10_000
_FIRST_AT = 1_795_000_000.0
_RATE = 100  # runs a second
_ORDER = b'{"input":{"prompt":"what is the fastest car in the world?"}}'
_TIMELINE = b'{"at":1795000000.123,"event":"sent","attempt":1}\n{"at":1795000001.123,"event":"ended"}\n'
_TEMPLATE = StoredRun("", "bench", "studio", "prompt_studio", _ORDER, 0.0, 0.0, "filler", 0.0)
_RARE_WORKFLOW = "rare"


def searches(runs: int) -> Mapping[str, dict[str, Any]]:
    """Return the conditions by their title."""
    middle = _created_at(runs // 2)
    return {
        "no condition": {},
        "tag of every second run": {"tags": ("team:checkout",)},
        "tag of one in 1 000": {"tags": ("rare",)},
        "two tags": {"tags": ("rare", "team:checkout")},
        "tag that no run has": {"tags": ("none",)},
        "tag and metadata": {"tags": ("rare",), "metadata": (("ticket", "4711"),)},
        "metadata of one in 1 000": {"metadata": (("ticket", "4711"),)},
        "metadata that no run has": {"metadata": (("ticket", "none"),)},
        "code of one in 1 000": {"code": "run_failed"},
        "status of one in 100": {"status": "failed"},
        "status of one in 10 000": {"status": "unknown"},
        "status that no run has": {"status": "queued"},
        "provider's id of one run": {"provider_run_id": f"{runs // 2}"},
        "provider's id of no run": {"provider_run_id": "none"},
        "workflow of one in 1 000": {"workflow": _RARE_WORKFLOW},
        "not durable": {"durable": False},
        "duration of one in 1 000": {"min_duration": 60.0},
        "times of 1 000 runs, code": {
            "created_from": middle,
            "created_until": middle + 1_000 / _RATE,
            "code": "run_failed",
        },
        "first 12 digits of an id": {"id_prefix": run_id(runs // 2)[:16]},
    }


def _created_at(number: int) -> float:
    return _FIRST_AT + number / _RATE


def run_id(number: int) -> str:
    """Return an id that begins with the time, and whose other digits are scattered, as those of real ones."""
    return f"run_{int(_created_at(number)):08x}{number * 0x9E3779B97F4A7C15F39CC0605CEDC835 % 2**96:024x}"


async def fill_store(store: Store, numbers: Iterable[int]) -> None:
    """Put ended runs with these numbers into a store."""
    left = iter(numbers)
    while batch := list(itertools.islice(left, _BATCH_SIZE)):
        await asyncio.gather(*(_store_run(store, number) for number in batch if number % 2 == 0))
        records = [_record(number) for number in batch if number % 2]
        await store.add_successes([_as_success(record) for record in records if _is_success(record)])
        await store.add_history([record for record in records if not _is_success(record)])


def _is_success(record: HistoryEntry) -> bool:
    return record.run.status == "succeeded" and not record.tags


def _as_success(record: HistoryEntry) -> SuccessRecord:
    run = record.run
    usage = RunUsage(int(run.created_at // 86_400), run.client, run.workflow, run.provider, "run", run.status)
    # fmt: off
    return SuccessRecord(
        run.created_at, run.id, run.client, run.workflow, run.provider, run.deadline_at, run.attempts,
        run.provider_run_id, run.finished_at or 0.0, run.details or b"", record.timeline,
        usage,
    )
    # fmt: on


async def _store_run(store: Store, number: int) -> None:
    run, tags = _ended_run(number)
    started = replace(run, phase=Phase.FOLLOWING, status="running", finished_at=None)
    await store.create_run(replace(started, provider_run_id=None, phase=Phase.QUEUED, status="queued"), None, tags)
    await store.advance(started, _TIMELINE)
    finished_at = run.finished_at or 0.0
    end = FinalState("filler", run.status, _ORDER, finished_at, 1, run.provider_run_id, details=run.details)
    await store.finish(run.id, end)


def _record(number: int) -> HistoryEntry:
    run, tags = _ended_run(number)
    return HistoryEntry(replace(run, order=b"", durable=False), tags, _TIMELINE)


def _ended_run(number: int) -> tuple[StoredRun, tuple[str, ...]]:
    """Return a run and its tags. The rare ones are durable and recorded in turn."""
    rare, kind = number % (2 * _RARE) in {0, _RARE + 1}, number // 2
    created_at = _created_at(number)
    metadata = {"ticket": "4711" if rare else f"{number}", "origin": "web"}
    tags = (*(("team:checkout",) if kind % 2 == 0 else ()), *(("rare",) if rare else ()))
    error = {"error": {"code": "run_failed", "detail": None}} if rare else {}
    details = {
        "metadata": metadata,
        **({"tags": tags} if tags else {}),
        "api": "run",
        "warning": None,
        "duration_ms": 1000,
        **error,
    }
    run = replace(
        _TEMPLATE,
        id=run_id(number),
        workflow=_RARE_WORKFLOW if rare else _TEMPLATE.workflow,
        created_at=created_at,
        phase=Phase.DONE,
        status=_status(number),
        attempts=1,
        provider_run_id=f"{number}",
        finished_at=created_at + (90.0 if rare else 1.0),
        details=orjson.dumps(details),
    )
    return run, tags


def _status(number: int) -> str:
    if number % _UNKNOWN == 1:
        return "unknown"
    return "failed" if number % _FAILED == 0 else "succeeded"


async def measure_records(store: Store, first: int) -> None:
    """Print the time to add a record of a success without tags to the history."""
    times = []
    for start in range(first, first + 20 * _GROUP, _GROUP):
        records = [_as_success(_record(number)) for number in range(start, start + _GROUP)]
        started = time.perf_counter()
        await store.add_successes(records)
        times.append((time.perf_counter() - started) * 1e6 / _GROUP)
    print(f"record in the history: {statistics.median(times):.1f} us, in groups of {_GROUP}", flush=True)


async def measure(store: Store, title: str, runs: int) -> None:
    """Print the times of a first page, and the requests to the end of the search."""
    for client, (name, conditions) in itertools.product((_TEMPLATE.client, None), searches(runs).items()):
        wanted = RunFilter(client, **conditions)
        page = await store.list_runs(wanted)
        times = []
        for _ in range(REPETITIONS):
            started = time.perf_counter()
            await store.list_runs(wanted)
            times.append((time.perf_counter() - started) * 1e3)
        p50, p99 = statistics.median(times), statistics.quantiles(times, n=100)[98]
        stopped = "" if page.stopped_at is None else "  (stopped at its bound)"
        scope = "all clients" if client is None else "one client"
        found = f"{len(page.runs):4} found{p50:9.2f} ms p50{p99:9.2f} ms p99{stopped}"
        print(f"{title:28}{scope:13}{name:28}{found}", flush=True)


async def measure_url(url: str, runs: int) -> None:
    """Fill the store at a URL, and measure it."""
    store = factory.create_store(url, SystemClock())
    await store.open()
    try:
        await fill_store(store, range(runs))
        await measure_records(store, runs)
        await measure(store, f"{url.partition(':')[0]}, {runs:9,} runs".replace(",", " ", 1), runs)
    finally:
        await store.close()


def main(arguments: list[str]) -> None:
    """Measure every store."""
    runs = int(arguments[0]) if arguments else RUNS
    with tempfile.TemporaryDirectory() as folder:
        sqlite = f"sqlite:///{Path(folder) / 'kept.db'}".replace("///", "////")
        for url in arguments[1:] or [sqlite]:
            asyncio.run(measure_url(url, runs))


if __name__ == "__main__":
    main(sys.argv[1:])
