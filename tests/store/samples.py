"""Store factories and sample records for the tests of stores."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import structlog
from structlog.testing import LogCapture

from gateway.clock import Clock
from gateway.redis.connection import RedisAddress, RedisConnection
from gateway.store.content_cipher import ContentCipher
from gateway.store.contract import Store
from gateway.store.encryption import EncryptedStore
from gateway.store.memory.store import MemoryStore
from gateway.store.records import FinalState, IdempotencyKey, RunOverview, StoredResponse, StoredRun
from gateway.store.redis.store import RedisStore
from gateway.store.run_filter import RunFilter
from gateway.store.sqlite.store import SqliteStore
from tests.support.valkey import shared_server
from tests.support.waiting import WAIT_TIMEOUT

NOW = 1_795_000_000.25


def new_redis_store(directory: Path, clock: Clock, *, port: int | None = None) -> RedisStore:
    """Return a store with its own key prefix, named after the directory, on the shared server."""
    address = RedisAddress("127.0.0.1", shared_server().port if port is None else port)
    connection = RedisConnection(address, timeout=WAIT_TIMEOUT)
    return RedisStore(connection, clock, prefix=f"{directory}:")


def encrypted(inner: Store, *keys: bytes, log: LogCapture | None = None) -> EncryptedStore:
    """Return the store with encrypted payloads."""
    wrapped = structlog.wrap_logger(None, processors=[log or LogCapture()])
    return EncryptedStore(inner, ContentCipher(keys, os.urandom), wrapped)


CONTENT_KEY = bytes(range(32))
STORES: dict[str, Callable[[Path, Clock], Store]] = {
    "memory": lambda _, clock: MemoryStore(clock),
    "sqlite": lambda directory, clock: SqliteStore(directory / "store.db", clock, busy_timeout=0.05),
    "valkey": new_redis_store,
    "memory-encrypted": lambda _, clock: encrypted(MemoryStore(clock), CONTENT_KEY),
    "sqlite-encrypted": lambda directory, clock: encrypted(
        SqliteStore(directory / "store.db", clock, busy_timeout=0.05), CONTENT_KEY
    ),
    "valkey-encrypted": lambda directory, clock: encrypted(new_redis_store(directory, clock), CONTENT_KEY),
    "sqlite-guarded": lambda directory, clock: encrypted(SqliteStore(directory / "store.db", clock, busy_timeout=0.05)),
}
"""Every store there is, in an empty directory. One more line, and the whole suite holds for it."""

SAMPLE_RUN = StoredRun(
    id="run_1",
    client="checkout",
    workflow="triage",
    provider="studio",
    order=b'{"input":{}}',
    created_at=NOW,
    deadline_at=NOW + 120,
    owner="one",
    leased_until_at=NOW + 30,
)
SAMPLE_KEY = IdempotencyKey("checkout", "key-1", b"\x00\xff" * 16)
SAMPLE_RESPONSE = StoredResponse(
    200, (("Content-Type", "application/json"), ("X-Odd", "é, \U0001f600"), ("X-Odd", "")), b'\x00{"a":1}\xff'
)
SAMPLE_FINAL_STATE = FinalState(
    owner="one",
    status="succeeded",
    document=b'{"output":"\xc3\xa9"}',
    finished_at=NOW + 5,
    attempts=2,
    provider_run_id="98765",
    response=SAMPLE_RESPONSE,
    callback=b'{"type":"run.finished"}',
)
CALLBACK_URL = "https://hooks.example.com/here"


def new_run(number: int, **changes: Any) -> StoredRun:
    """Return the run with this number, with changed fields; a higher number is created later."""
    fields: dict[str, Any] = {"id": f"run_{number}", "created_at": NOW + number}
    return replace(SAMPLE_RUN, **fields | changes)


async def listed(store: Store, wanted: RunFilter) -> list[RunOverview]:
    """Return the runs of a list that was not stopped by its bound."""
    page = await store.list_runs(wanted)
    assert page.stopped_at is None
    return page.runs


def new_run_with_callback(number: int = 1, **changes: Any) -> StoredRun:
    """Return a run with a callback URL."""
    return new_run(number, callback_url=CALLBACK_URL, **changes)
