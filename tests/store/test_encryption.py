"""Encryption at rest: nothing of a payload is in the store's data, and what cannot be decrypted is never taken as read.

The contract of stores is tested with encrypted stores too (tests/store/samples.py).
"""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from base64 import b64encode
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest
from structlog.testing import LogCapture

from gateway.redis.connection import RedisAddress, RedisConnection
from gateway.store.content_cipher import ContentCipher
from gateway.store.contract import ContentUnreadable, Store
from gateway.store.history import HistoryEntry
from gateway.store.memory.store import MemoryStore
from gateway.store.records import FinalState, Phase, StoredResponse, StoredRun
from gateway.store.redis.store import RedisStore
from gateway.store.sqlite.store import SqliteStore
from tests.store.samples import (
    CONTENT_KEY,
    NOW,
    SAMPLE_FINAL_STATE,
    SAMPLE_KEY,
    encrypted,
    new_run,
    new_run_with_callback,
)
from tests.support.process import inherited_environment
from tests.support.valkey import running_server
from tests.support.virtual_clock import VirtualClock

CANARY = b"canary-5f1e9c"
OTHER_KEY = bytes(32)
ORDER = b'{"input":{"prompt":"' + CANARY + b'"}}'
KEY = replace(SAMPLE_KEY, fingerprint=CANARY + b"x" * (32 - len(CANARY)))
DOCUMENT = b'{"output":"' + CANARY + b'"}'
END = FinalState(
    owner="one",
    status="succeeded",
    document=DOCUMENT,
    finished_at=NOW + 5,
    attempts=1,
    response=StoredResponse(200, (("Content-Type", "application/json"),), DOCUMENT),
    callback=b'{"data":' + DOCUMENT + b"}",
    details=b'{"metadata":{"team":"visible-7a"}}',
)


def with_order(run: StoredRun) -> StoredRun:
    return replace(run, order=ORDER)


async def write_everything(store: Store) -> None:
    """Store every payload: of runs that wait, have ended, were revised and were cancelled."""
    await store.create_run(with_order(new_run_with_callback(1)), KEY)
    assert await store.finish("run_1", END)
    large = replace(END, document=DOCUMENT * 1000, callback=DOCUMENT * 1000)
    await store.create_run(with_order(new_run_with_callback(2)), replace(KEY, text="key-2"))
    assert await store.finish("run_2", replace(large, status="unknown"))
    assert await store.revise("run_2", large)
    await store.create_run(with_order(new_run_with_callback(3)), None)
    await store.cancel_queued("run_3", END)
    await store.create_run(with_order(new_run(4)), replace(KEY, text="key-4"))
    recorded = replace(with_order(new_run(5)), document=DOCUMENT, durable=False, phase=Phase.DONE, status="failed")
    await store.add_history(
        [HistoryEntry(recorded, content_until_at=NOW + 60), HistoryEntry(recorded_without_content())]
    )
    assert await store.get_document("run_5") == DOCUMENT


def recorded_without_content() -> StoredRun:
    return new_run(6, order=b"", durable=False, phase=Phase.DONE, status="failed")


async def test_no_payload_is_in_the_files_of_sqlite(tmp_path: Path, clock: VirtualClock) -> None:
    """R95: neither in the file nor in its write-ahead log, while it is open and after it was closed."""
    found: dict[bool, list[bool]] = {}
    for encrypts in (True, False):
        folder = tmp_path / str(encrypts)
        store = encrypted(SqliteStore(folder / "runs.db", clock), *[CONTENT_KEY] * encrypts)
        await store.open()
        await write_everything(store)
        while_open = data_of(folder)
        await store.close()
        found[encrypts] = [CANARY in while_open, CANARY in data_of(folder), b"visible-7a" in data_of(folder)]
    assert {True: [False, False, True], False: [True, True, True]} == found


def data_of(folder: Path) -> bytes:
    """Return the contents of all files of a store."""
    assert (folder / "runs.db").stat().st_size
    return b"".join(path.read_bytes() for path in sorted(folder.iterdir()))


def all_files(folder: Path) -> bytes:
    """Return the contents of all files below a folder."""
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


@pytest.mark.process
async def test_no_payload_is_in_the_data_of_a_server(tmp_path: Path, clock: VirtualClock) -> None:
    """R95: neither in memory, as DUMP shows it, nor in its append-only file."""
    with running_server(tmp_path) as server:
        connection = RedisConnection(RedisAddress("127.0.0.1", server.port), timeout=10)
        store = encrypted(RedisStore(connection, clock), CONTENT_KEY)
        await store.open()
        await write_everything(store)
        await store.close()
    files = all_files(tmp_path)
    assert (False, True, True) == (CANARY in files, b"visible-7a" in files, b"run_4" in files)


@pytest.fixture
async def inner(tmp_path: Path, clock: VirtualClock) -> AsyncIterator[SqliteStore]:
    """Open store, to be wrapped with several keys."""
    store = SqliteStore(tmp_path / "store.db", clock)
    await store.open()
    yield store
    await store.close()


async def test_payloads_of_before_stay_readable(inner: SqliteStore) -> None:
    """A store from before the encryption, or with two keys, is read as a whole; new values have the newest key."""
    for number, keys in enumerate([(), (OTHER_KEY,), (CONTENT_KEY, OTHER_KEY)], start=1):
        store = encrypted(inner, *keys)
        await store.create_run(with_order(new_run_with_callback(number)), replace(KEY, text=f"key-{number}"))
        await store.finish(f"run_{number}", END)
    rotated = encrypted(inner, CONTENT_KEY, OTHER_KEY)
    taken = await rotated.take_due_callbacks(now_at=NOW + 9, until_at=NOW + 20, limit=9)
    assert [f"run_{number}" for number in (1, 2, 3)] == [delivery.run_id for delivery in taken]
    for number, delivery in enumerate(taken, start=1):
        run = await rotated.get_run(f"run_{number}")
        assert run is not None
        assert (ORDER, DOCUMENT) == (run.order, run.document)
        assert DOCUMENT == await rotated.get_document(run.id)
        assert END.callback == await rotated.load_callback(delivery, until_at=NOW + 40)
        record = await rotated.get_idempotency_record(KEY.client, f"key-{number}")
        assert record is not None
        assert (KEY.fingerprint, END.response) == (record.key.fingerprint, record.response)
    assert END.callback is not None
    assert [len(END.callback)] * 2 == [delivery.size for delivery in taken[1:]]
    newest_only = encrypted(inner, CONTENT_KEY)
    assert DOCUMENT == await newest_only.get_document("run_3")
    with pytest.raises(ContentUnreadable):
        await newest_only.get_document("run_2")


@pytest.mark.parametrize("keys", [(), (OTHER_KEY,)], ids=["no key", "another key"])
async def test_without_its_key_a_payload_is_unreadable_and_unchanged(
    inner: SqliteStore, keys: tuple[bytes, ...]
) -> None:
    """Not returned as it is stored, not taken as missing; with the key everything is there again."""
    store = encrypted(inner, CONTENT_KEY)
    await store.create_run(with_order(new_run_with_callback(1)), KEY)
    await store.finish("run_1", END)
    log = LogCapture()
    keyless = encrypted(inner, *keys, log=log)
    [delivery] = await keyless.take_due_callbacks(now_at=NOW + 9, until_at=NOW + 20, limit=9)
    for read in (
        keyless.get_run("run_1"),
        keyless.get_document("run_1"),
        keyless.get_idempotency_record(KEY.client, KEY.text),
        keyless.create_run(new_run(2), KEY),
        keyless.load_callback(delivery, until_at=NOW + 30),
    ):
        with pytest.raises(ContentUnreadable, match="a key that is not configured"):
            await read
    expected = ["order", "document", "fingerprint", "fingerprint", "callback"]
    assert [("content_unreadable", "error", "run_1", kind) for kind in expected] == [
        (entry["event"], entry["log_level"], entry["run_id"], entry["content"]) for entry in log.entries
    ]
    assert CANARY not in repr(log.entries).encode()
    overview = await keyless.get_overview("run_1")
    assert overview is not None
    assert ("succeeded", "pending") == (overview.status, overview.callback_state)
    assert await store.get_run("run_2") is None
    [again] = await store.take_due_callbacks(now_at=NOW + 30, until_at=NOW + 40, limit=9)
    assert END.callback == await store.load_callback(again, until_at=NOW + 50)
    assert DOCUMENT == await store.get_document("run_1")


async def test_an_unreadable_run_does_not_hold_up_the_adoption_of_others(inner: SqliteStore) -> None:
    for number, key in enumerate([OTHER_KEY, CONTENT_KEY], start=1):
        await encrypted(inner, key).create_run(with_order(new_run(number)), None)
    store = encrypted(inner, CONTENT_KEY)
    unreadable, readable = await store.adopt("two", now_at=NOW + 60, until_at=NOW + 90, limit=9)
    assert ("run_1", "run_2", ORDER) == (unreadable.id, readable.id, readable.order)
    assert CANARY not in unreadable.order
    with pytest.raises(ContentUnreadable):
        await store.get_run("run_1")


@pytest.mark.parametrize(
    ("statement", "read"),
    [
        ("UPDATE orders SET body = (SELECT body FROM orders WHERE run = 2) WHERE run = 1", "run"),
        ("UPDATE orders SET body = (SELECT document FROM runs WHERE number = 1) WHERE run = 1", "run"),
        ("UPDATE runs SET document = (SELECT document FROM runs WHERE number = 2) WHERE number = 1", "document"),
        (
            "UPDATE callback_bodies SET body = (SELECT body FROM callback_bodies WHERE run = 2) WHERE run = 1",
            "callback",
        ),
        ("UPDATE keys SET body = (SELECT body FROM keys WHERE text = 'two') WHERE text = 'one'", "record"),
        (
            "UPDATE keys SET fingerprint = (SELECT fingerprint FROM keys WHERE text = 'two') WHERE text = 'one'",
            "record",
        ),
        ("UPDATE keys SET body = (SELECT document FROM runs WHERE number = 1) WHERE text = 'one'", "record"),
        ("UPDATE keys SET run_id = 'run_2' WHERE text = 'one'", "record"),
        ("UPDATE keys SET text = 'three' WHERE text = 'one'", "other record"),
    ],
)
async def test_a_value_that_was_moved_is_refused(tmp_path: Path, inner: SqliteStore, statement: str, read: str) -> None:
    """A value is bound to its run and its kind; a fingerprint to its client, key and run, and through it a response."""
    store = encrypted(inner, CONTENT_KEY)
    for number, text in enumerate(("one", "two"), start=1):
        await store.create_run(with_order(new_run_with_callback(number)), replace(KEY, text=text))
        await store.finish(f"run_{number}", END)
    taken = await store.take_due_callbacks(now_at=NOW + 9, until_at=NOW + 20, limit=9)
    [delivery] = [each for each in taken if each.run_id == "run_1"]
    reads: dict[str, Callable[[], Awaitable[object]]] = {
        "run": lambda: store.get_run("run_1"),
        "document": lambda: store.get_document("run_1"),
        "callback": lambda: store.load_callback(delivery, until_at=NOW + 30),
        "record": lambda: store.get_idempotency_record(KEY.client, "one"),
        "other record": lambda: store.get_idempotency_record(KEY.client, "three"),
    }
    assert (await reads[read]() is None) == (read == "other record")
    if read == "callback":
        delivery = replace(delivery, taken_until_at=NOW + 30)
    with sqlite3.connect(tmp_path / "store.db") as db:
        assert db.execute(statement).rowcount
    db.close()
    with pytest.raises(ContentUnreadable, match="changed, or belongs to another run"):
        await reads[read]()


async def test_the_caller_keeps_its_values(clock: VirtualClock) -> None:
    """What is passed to the store is not changed, so that a repeated call does not encrypt twice."""
    inner = MemoryStore(clock)
    store = encrypted(inner, CONTENT_KEY)
    await store.open()
    run, end = with_order(new_run_with_callback(1)), replace(SAMPLE_FINAL_STATE, status="unknown")
    await store.create_run(run, KEY)
    assert await store.finish(run.id, end)
    assert await store.revise(run.id, end)
    assert (ORDER, SAMPLE_FINAL_STATE) == (run.order, replace(end, status="succeeded"))
    assert SAMPLE_FINAL_STATE.document == await store.get_document(run.id)
    kept = await inner.get_document(run.id)
    assert kept is not None
    assert SAMPLE_FINAL_STATE.document not in kept


@pytest.mark.process
def test_without_the_library_only_keys_are_refused(tmp_path: Path) -> None:
    """The optional dependency `cryptography` is needed by a configuration with keys."""
    (tmp_path / "gateway.yaml").write_text("content: {encrypt: {key: {env: CONTENT_KEY}}}")
    code = """
import sys
sys.modules["cryptography"] = None
from pathlib import Path
from gateway.app import factories
from gateway.clock import SystemClock
from gateway.settings import Settings, load
factories.content_cipher(Settings(), SystemClock())
try:
    factories.content_cipher(load(Path(sys.argv[1])), SystemClock())
except Exception as refused:
    print(refused)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "gateway.yaml")],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        env={**inherited_environment(), "CONTENT_KEY": b64encode(CONTENT_KEY).decode()},
    )
    assert "content.encrypt: needs the cryptography library: install runward[encryption]" == done.stdout.strip()


async def test_keys_are_replaced_while_it_is_open(inner: SqliteStore) -> None:
    """R100: and a key that is no longer configured is logged, by its id."""
    log = LogCapture()
    store = encrypted(inner, OTHER_KEY, log=log)
    await store.create_run(with_order(new_run(1)), None)
    store.reconfigure(ContentCipher([CONTENT_KEY, OTHER_KEY], bytes))
    assert [] == log.entries
    assert (await store.get_run("run_1")) == with_order(new_run(1))
    store.reconfigure(ContentCipher([CONTENT_KEY], bytes))
    [entry] = log.entries
    assert ("content_keys_removed", "warning", 1) == (entry["event"], entry["log_level"], len(entry["keys"]))
    with pytest.raises(ContentUnreadable, match=entry["keys"][0]):
        await store.get_run("run_1")
