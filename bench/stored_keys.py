"""Benchmark of stored keys: the memory of the copy in a process, a look-up, and the time to read all keys at start.

python -m bench.stored_keys [KEYS] [URL ...]    100 000 keys and SQLite by default; redis://127.0.0.1:6379/0 for a
                                                running server, whose data with the prefix `runward:` must be absent
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import structlog

from gateway.auth.client import Client
from gateway.auth.keys import KeyRing, PresentedKey, hash_key, new_key
from gateway.auth.stored_keys.directory import KeyDirectory
from gateway.auth.stored_keys.follower import KeyFollower
from gateway.auth.stored_keys.terms import KeyTerms
from gateway.clock import SystemClock
from gateway.observability.metrics import Metrics
from gateway.store import factory
from gateway.store.client_key import StoredKey
from gateway.store.contract import Store

KEYS = 100_000
_CLIENTS = 50
_SAMPLE = 1000  # keys that are looked up in one repetition
_REPETITIONS = 50
_AT_ONCE = 200  # keys that are added concurrently


async def fill(store: Store, count: int, clock: SystemClock) -> list[str]:
    """Add keys; returns the texts of some of them."""
    texts: list[str] = []
    for first in range(0, count, _AT_ONCE):
        keys = []
        for number in range(first, min(first + _AT_ONCE, count)):
            text = new_key(clock)
            terms = KeyTerms(f"app {number}", ("support-*",), created_by="ann").encode()
            digest, expires_at = sha256(text.encode()).digest(), 4e9
            keys.append(StoredKey(f"key_{number:032x}", f"client-{number % _CLIENTS}", digest, terms, 1e9, expires_at))
            if len(texts) < _SAMPLE:
                texts.append(text)
        await asyncio.gather(*(store.client_keys.add(key, most=count) for key in keys))
    return texts


def microseconds(look_up: Callable[[str], object], texts: list[str]) -> float:
    """Return the median time of a look-up."""
    times = []
    for _ in range(_REPETITIONS):
        began = time.perf_counter()
        for text in texts:
            look_up(text)
        times.append((time.perf_counter() - began) / len(texts) * 1e6)
    return statistics.median(times)


async def measure(url: str, count: int) -> None:
    """Print the figures of one store."""
    clock = SystemClock()
    store = factory.create_store(url, clock)
    await store.open()
    texts = await fill(store, count, clock)
    clients = {f"client-{number}": Client(f"client-{number}", ("*",)) for number in range(_CLIENTS)}
    directory = KeyDirectory(clock)
    follower = KeyFollower(store, directory, lambda: clients, clock, Metrics(), structlog.get_logger())
    began = time.perf_counter()
    await follower.refresh()
    read = time.perf_counter() - began
    began = time.perf_counter()
    for _ in range(10):
        await follower.refresh()
    unchanged = (time.perf_counter() - began) / 10
    directory.clear()
    tracemalloc.start()
    await follower.refresh()
    size = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    now = clock.now()
    configured = KeyRing({"configured": [(hash_key(text), None) for text in texts]})
    of_configuration = microseconds(lambda text: configured.find(PresentedKey(text), clock.now), texts)
    of_store = microseconds(lambda text: directory.find(PresentedKey(text), now, clients), texts)
    print(f"{url.partition(':')[0]}, {len(directory)} keys")
    print(f"  read at start: {read:.2f} s; when nothing has changed: {unchanged * 1e3:.2f} ms")
    print(f"  memory of the copy: {size / 1e6:.0f} MB, {size / count:.0f} bytes a key")
    print(f"  look-up: {of_store:.2f} us in the copy, {of_configuration:.2f} us in the keys of a configuration")
    await store.close()


async def main() -> None:
    """Measure each store."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else KEYS
    with tempfile.TemporaryDirectory() as folder:
        for url in sys.argv[2:] or [f"sqlite:///{Path(folder) / 'keys.db'}"]:
            await measure(url, count)


if __name__ == "__main__":
    asyncio.run(main())
