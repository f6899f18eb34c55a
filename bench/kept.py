"""What it costs to keep runs: keyed and asynchronous requests beside plain ones, on the same gateway, as ratios.

    python -m bench.kept [URL ...]        SQLite by default; redis://127.0.0.1:6379/0 for a server that is running

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

from bench.processes import Server, gateway, load, upstream
from gateway.clock import SystemClock
from gateway.store import by_url
from gateway.store.contract import Answer, Finish, Key, Store, StoredRun

KINDS = ("plain", "keyed", "async")
FILLS = (1_000, 1_000_000)
ROUNDS = 5
CONNECTIONS = 64
REQUESTS = 3_000
_TOGETHER = 2_000
_BODY = b'{"input":{"prompt":"what is the fastest car in the world?"}}'
_NEVER = StoredRun("", "bench", "studio", "prompt_studio", _BODY, 0.0, 0.0, "filler", 0.0)


async def fill(url: str, numbers: Iterable[int]) -> None:
    """Put finished runs with these numbers into a store, half of them with keys."""
    store = by_url.store(url, SystemClock())
    await store.open()
    try:
        left = iter(numbers)
        while batch := list(itertools.islice(left, _TOGETHER)):
            await asyncio.gather(*(_keep(store, number) for number in batch))
    finally:
        await store.close()


async def _keep(store: Store, number: int) -> None:
    now = time.time()
    run = replace(_NEVER, id=f"run_{number:032x}", created_at=now, deadline_at=now, leased_until_at=now + 60)
    key = Key("bench", f"filled-{number}", b"x" * 32) if number % 2 else None
    await store.begin(run, key)
    answer = Answer(200, (("Content-Type", "application/json"),), _BODY)
    await store.finish(run.id, Finish("filler", "succeeded", _BODY, now, 1, answer=answer))


def measure(server: Server, title: str) -> None:
    """Print the rates, and their ratios to that of plain runs."""
    for kind in KINDS:
        load(server, connections=CONNECTIONS, requests=500, kind=kind)  # warm
    rates: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for _ in range(ROUNDS):
        for kind in KINDS:
            figures = load(server, connections=CONNECTIONS, requests=REQUESTS, kind=kind)
            rates[kind].append(figures["per_second"])
            time.sleep(1.0)  # what was accepted is worked off
    for kind, all_of_them in rates.items():
        ratio = statistics.median(one / plain for one, plain in zip(all_of_them, rates["plain"], strict=True))
        print(f"{title:28}{kind:8}{statistics.median(all_of_them):10.0f}/s{ratio:8.2f}", flush=True)


def main(urls: list[str]) -> None:
    """Measure every store, with few and with many runs in it."""
    for url in urls or ["sqlite"]:
        with tempfile.TemporaryDirectory() as folder, upstream() as provider:
            place = f"sqlite:///{Path(folder) / 'kept.db'}".replace("///", "////") if url == "sqlite" else url
            for before, runs in itertools.pairwise((0, *FILLS)):
                asyncio.run(fill(place, range(before, runs)))
                with gateway(provider, place) as server:
                    measure(server, f"{url.partition(':')[0]}, {runs:9,} runs".replace(",", " "))


if __name__ == "__main__":
    main(sys.argv[1:])
