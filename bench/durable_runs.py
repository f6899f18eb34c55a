"""Benchmark of durable runs: requests with an Idempotency-Key and asynchronous ones, as ratios to a bare relay's.

    python -m bench.durable_runs [URL ...]        SQLite by default; redis://127.0.0.1:6379/0 for a running server

Each store is measured as it is with 1 000 runs in it, and with 1 000 000. Rounds alternate between the relay and the
kinds. The processor time is the gateway's until its accepted runs have ended; that of the store's server is not in it.
"""

from __future__ import annotations

import asyncio
import itertools
import statistics
import sys
import tempfile
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from bench.processes import ServerProcess, run_load, start_gateway, start_provider, start_relay
from gateway.clock import SystemClock
from gateway.store import factory
from gateway.store.contract import Store
from gateway.store.records import FinalState, IdempotencyKey, StoredResponse, StoredRun

KINDS = ("plain", "keyed", "async")
STORED_RUNS = (1_000, 1_000_000)
ROUNDS = 5
CONNECTIONS = 64
REQUESTS = 3_000
_BATCH_SIZE = 2_000
_BODY = b'{"input":{"prompt":"what is the fastest car in the world?"}}'
_RUN_TEMPLATE = StoredRun("", "bench", "studio", "prompt_studio", _BODY, 0.0, 0.0, "filler", 0.0)


async def fill_store(url: str, numbers: Iterable[int]) -> None:
    """Put finished runs with these numbers into a store, half of them with keys."""
    store = factory.create_store(url, SystemClock())
    await store.open()
    try:
        left = iter(numbers)
        while batch := list(itertools.islice(left, _BATCH_SIZE)):
            await asyncio.gather(*(_store_run(store, number) for number in batch))
    finally:
        await store.close()


async def _store_run(store: Store, number: int) -> None:
    now = time.time()
    run = replace(_RUN_TEMPLATE, id=f"run_{number:032x}", created_at=now, deadline_at=now, leased_until_at=now + 60)
    key = IdempotencyKey("bench", f"filled-{number}", b"x" * 32) if number % 2 else None
    await store.create_run(run, key)
    answer = StoredResponse(200, (("Content-Type", "application/json"),), _BODY)
    await store.finish(run.id, FinalState("filler", "succeeded", _BODY, now, 1, response=answer))


def measure(server: ServerProcess, relay: ServerProcess, title: str) -> None:
    """Print rates and processor times, with their ratios to those of the relay in the same round."""
    _load(relay, "plain")
    for kind in KINDS:
        _load(server, kind)  # warm-up
    rounds: dict[str, list[tuple[float, ...]]] = {kind: [] for kind in KINDS}
    for _ in range(ROUNDS):
        for kind in KINDS:
            bare_rate, bare_cpu = _load(relay, "plain")
            rate, cpu = _load(server, kind)
            rounds[kind].append((rate, rate / bare_rate, cpu, cpu / bare_cpu))
    for kind, figures in rounds.items():
        rate, of_relay, cpu, cpu_of_relay = map(statistics.median, zip(*figures, strict=True))
        print(f"{title:28}{kind:8}{rate:8.0f}/s{of_relay:8.2f}{cpu:8.0f} us CPU{cpu_of_relay:8.2f}", flush=True)


def _load(server: ServerProcess, kind: str) -> tuple[float, float]:
    """Run one round; returns requests/s, and the microseconds of processor time of a request."""
    before = server.cpu_seconds()
    rate = run_load(server, connections=CONNECTIONS, requests=REQUESTS, kind=kind)["per_second"]
    time.sleep(1.0)  # accepted runs are completed
    return rate, (server.cpu_seconds() - before) / REQUESTS * 1e6


def main(urls: list[str]) -> None:
    """Measure every store, with few and with many stored runs."""
    for url in urls or ["sqlite"]:
        with tempfile.TemporaryDirectory() as folder, start_provider() as provider, start_relay(provider) as relay:
            store_url = f"sqlite:///{Path(folder) / 'kept.db'}".replace("///", "////") if url == "sqlite" else url
            for before, runs in itertools.pairwise((0, *STORED_RUNS)):
                asyncio.run(fill_store(store_url, range(before, runs)))
                with start_gateway(provider, store_url) as server:
                    measure(server, relay, f"{url.partition(':')[0]}, {runs:9,} runs".replace(",", " "))


if __name__ == "__main__":
    main(sys.argv[1:])
