"""Benchmark of durable runs: requests with an Idempotency-Key and asynchronous ones, as ratios to plain ones.

    python -m bench.durable_runs [URL ...]        SQLite by default; redis://127.0.0.1:6379/0 for a running server

Each store is measured as it is with 1 000 runs in it, and with 1 000 000. Rounds alternate between the kinds.
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

from bench.processes import ServerProcess, run_load, start_gateway, start_provider
from gateway.clock import SystemClock
from gateway.store import factory
from gateway.store.contract import FinalState, IdempotencyKey, Store, StoredResponse, StoredRun

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


def measure(server: ServerProcess, title: str) -> None:
    """Print the rates, and their ratios to that of plain runs."""
    for kind in KINDS:
        run_load(server, connections=CONNECTIONS, requests=500, kind=kind)  # warm-up
    rates: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for _ in range(ROUNDS):
        for kind in KINDS:
            figures = run_load(server, connections=CONNECTIONS, requests=REQUESTS, kind=kind)
            rates[kind].append(figures["per_second"])
            time.sleep(1.0)  # accepted runs are completed
    for kind, all_of_them in rates.items():
        ratio = statistics.median(one / plain for one, plain in zip(all_of_them, rates["plain"], strict=True))
        print(f"{title:28}{kind:8}{statistics.median(all_of_them):10.0f}/s{ratio:8.2f}", flush=True)


def main(urls: list[str]) -> None:
    """Measure every store, with few and with many stored runs."""
    for url in urls or ["sqlite"]:
        with tempfile.TemporaryDirectory() as folder, start_provider() as provider:
            store_url = f"sqlite:///{Path(folder) / 'kept.db'}".replace("///", "////") if url == "sqlite" else url
            for before, runs in itertools.pairwise((0, *STORED_RUNS)):
                asyncio.run(fill_store(store_url, range(before, runs)))
                with start_gateway(provider, store_url) as server:
                    measure(server, f"{url.partition(':')[0]}, {runs:9,} runs".replace(",", " "))


if __name__ == "__main__":
    main(sys.argv[1:])
