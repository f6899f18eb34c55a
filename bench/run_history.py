"""Benchmark of the history: cost and size of a recorded run, and searches over the runs of all clients.

    python -m bench.run_history [RUNS] [URL ...]    200 000 runs and SQLite by default; redis://127.0.0.1:6379/0 for a
                                                    running server, whose data with the prefix `runward:` must be absent

The runs are of twenty clients. One of 100 has failed, and one of 1 000 has a rare tag and a rare value in its metadata.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson

from bench.run_search import run_id
from gateway.clock import SystemClock
from gateway.redis.connection import RedisAddress, RedisConnection
from gateway.store import factory
from gateway.store.contract import Store
from gateway.store.history import HistoryEntry
from gateway.store.records import Phase, StoredRun
from gateway.store.run_filter import RunFilter

RUNS = 200_000
REPETITIONS = 100
_BATCH_SIZE = 200
_FIRST_AT = 1_795_000_000.0
_TIMELINE = b"".join(
    orjson.dumps({"at": _FIRST_AT + number, "event": event, "provider": "prompt_studio", "attempt": 1}) + b"\n"
    for number, event in enumerate(("started", "accepted", "polled", "succeeded"))
)


def searches(runs: int) -> Mapping[str, dict[str, Any]]:
    """Return the conditions by their title."""
    middle = _FIRST_AT + runs / 2
    return {
        "newest page": {},
        "page in the middle": {"before": (middle, run_id(runs // 2))},
        "newest page of a client": {"client": "client_7"},
        "status of one in 100": {"status": "failed"},
        "that of a client": {"client": "client_0", "status": "failed"},
        "status that no run has": {"status": "unknown"},
        "tag of every second run": {"tags": ("team:checkout",)},
        "tag of one in 1 000": {"tags": ("rare",)},
        "metadata of one in 1 000": {"metadata": (("ticket", "4711"),)},
        "metadata that no run has": {"metadata": (("ticket", "none"),)},
        "not durable": {"durable": False},
        "first 12 digits of an id": {"id_prefix": run_id(runs // 2)[:16]},
    }


def new_entry(number: int) -> HistoryEntry:
    """Return the record of a run with this number."""
    rare, failed = number % 1_000 == 0, number % 100 == 0
    created_at = _FIRST_AT + number
    labels = {"metadata": {"ticket": "4711" if rare else f"{number}", "origin": "web"}, "api": "run"}
    error = {"error": {"code": "run_failed", "detail": None}} if failed else {}
    details = orjson.dumps({**labels, "tags": ["team:checkout"], "warning": None, "duration_ms": 1000, **error})
    run = StoredRun(
        run_id(number),
        f"client_{number % 20}",
        "studio",
        "prompt_studio",
        b"",
        created_at,
        created_at + 60,
        "",
        0.0,
        Phase.DONE,
        "failed" if failed else "succeeded",
        1,
        f"{number:020d}",
        finished_at=created_at + 1.0,
        details=details,
        durable=False,
    )
    tags = (*(("team:checkout",) if number % 2 == 0 else ()), *(("rare",) if rare else ()))
    return HistoryEntry(run, tags, _TIMELINE)


async def record(store: Store, runs: int) -> float:
    """Record runs. Returns the seconds of the processor that this process has used for that."""
    used = 0.0
    for first in range(0, runs, _BATCH_SIZE):
        entries = [new_entry(number) for number in range(first, min(first + _BATCH_SIZE, runs))]
        started = time.process_time()
        await store.add_history(entries)
        used += time.process_time() - started
    return used


async def measure(store: Store, title: str, runs: int) -> None:
    """Print the times of a first page."""
    for name, conditions in searches(runs).items():
        wanted = RunFilter(**{"client": None, **conditions})
        page, times = await store.list_runs(wanted), []
        for _ in range(REPETITIONS):
            started = time.perf_counter()
            await store.list_runs(wanted)
            times.append((time.perf_counter() - started) * 1e3)
        p50, p99 = statistics.median(times), statistics.quantiles(times, n=100)[98]
        stopped = "" if page.stopped_at is None else "  (stopped at its bound)"
        print(f"{title:10}{name:28}{len(page.runs):4} found{p50:9.2f} ms p50{p99:9.2f} ms p99{stopped}", flush=True)


async def measure_url(url: str, runs: int) -> None:
    """Fill the store at a URL, and measure it."""
    store, title = factory.create_store(url, SystemClock()), url.partition(":")[0]
    await store.open()
    try:
        size, server = await _usage(url)
        used = await record(store, runs)
        size_after, server_after = await _usage(url)
        print(
            f"{title:10}{used / runs * 1e6:.1f} us per recorded run in this process,"
            f" {(server_after - server) / runs * 1e6:.1f} us in the server, {(size_after - size) / runs:.0f} bytes",
            flush=True,
        )
        await measure(store, title, runs)
        started = time.perf_counter()
        deleted = await store.purge_history(before_at=0.0, most=runs - runs // 10)
        print(f"{title:10}{(time.perf_counter() - started) / max(deleted, 1) * 1e6:.1f} us per deleted run", flush=True)
    finally:
        await store.close()


async def _usage(url: str) -> tuple[float, float]:
    """Return the bytes of the store, and the seconds of the processor that its server has used."""
    if url.startswith("sqlite:"):
        path = Path("/" + url.partition(":")[2].lstrip("/"))
        return sum(each.stat().st_size for each in path.parent.glob(f"{path.name}*")), 0.0
    host, _, port = url.removeprefix("redis://").partition("/")[0].partition(":")
    connection = RedisConnection(RedisAddress(host, int(port or 6379)))
    lines = (await connection.execute_one("INFO", "everything")).decode().splitlines()
    await connection.close()
    info = {name: value for name, _, value in (line.partition(":") for line in lines)}
    return float(info["used_memory"]), float(info["used_cpu_user_main_thread"]) + float(
        info["used_cpu_sys_main_thread"]
    )


def main(arguments: list[str]) -> None:
    """Measure every store."""
    runs = int(arguments[0]) if arguments else RUNS
    with tempfile.TemporaryDirectory() as folder:
        sqlite = f"sqlite:///{Path(folder) / 'kept.db'}".replace("///", "////")
        for url in arguments[1:] or [sqlite]:
            asyncio.run(measure_url(url, runs))


if __name__ == "__main__":
    main(sys.argv[1:])
