"""Generation of a store: after its data were deleted or replaced, no run is acknowledged, and the store is failing."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from gateway.redis.connection import RedisAddress, RedisConnection
from gateway.store.contract import StoreReplaced, StoreUnavailable
from gateway.store.redis.store import RedisStore
from gateway.store.sqlite.store import SqliteStore
from tests.store.samples import new_run
from tests.support.valkey import ValkeyServer, running_server
from tests.support.virtual_clock import VirtualClock
from tests.support.waiting import WAIT_TIMEOUT


def _remove(path: Path) -> None:
    path.unlink()


def _replace_by_a_copy(path: Path) -> None:
    shutil.copy(path, path.with_suffix(".copy"))
    path.with_suffix(".copy").rename(path)


def _remove_the_log(path: Path) -> None:
    path.with_name(path.name + "-wal").unlink()


def _empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.fixture
async def sqlite_store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    """Open store in `store.db`, with run 1."""
    store = SqliteStore(tmp_path / "store.db", VirtualClock())
    await store.open()
    await store.create_run(new_run(1), None)
    yield store
    await store.close()


@pytest.mark.parametrize("change", [_remove, _replace_by_a_copy, _remove_the_log])
async def test_a_removed_or_replaced_file_acknowledges_no_run(
    sqlite_store: SqliteStore, tmp_path: Path, change: Callable[[Path], None]
) -> None:
    assert not sqlite_store.failing
    change(tmp_path / "store.db")
    with pytest.raises(StoreReplaced, match="the file was removed or replaced"):
        await sqlite_store.create_run(new_run(2), None)
    with pytest.raises(StoreUnavailable):
        await sqlite_store.ping()
    assert sqlite_store.failing


async def test_an_emptied_file_acknowledges_no_run(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "store.db", VirtualClock())
    await store.open()
    _empty(tmp_path / "store.db")
    with pytest.raises(StoreReplaced):
        await store.create_run(new_run(1), None)
    assert store.failing
    await store.close()


async def test_a_file_that_is_moved_back_is_the_same_store(sqlite_store: SqliteStore, tmp_path: Path) -> None:
    (tmp_path / "store.db").rename(tmp_path / "elsewhere.db")
    with pytest.raises(StoreReplaced):
        await sqlite_store.create_run(new_run(2), None)
    (tmp_path / "elsewhere.db").rename(tmp_path / "store.db")
    assert None is await sqlite_store.create_run(new_run(3), None)
    assert not sqlite_store.failing


async def test_every_change_of_a_batch_is_refused(sqlite_store: SqliteStore, tmp_path: Path) -> None:
    """Changes of one commit share its result."""
    _remove(tmp_path / "store.db")
    outcomes = await asyncio.gather(
        *(sqlite_store.create_run(new_run(number), None) for number in range(2, 22)), return_exceptions=True
    )
    assert [StoreReplaced] * 20 == [type(outcome) for outcome in outcomes]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ValkeyServer]:
    """Server of one test."""
    with running_server(tmp_path / "server") as running:
        yield running


def _redis_store(server: ValkeyServer) -> RedisStore:
    return RedisStore(RedisConnection(RedisAddress("127.0.0.1", server.port), timeout=WAIT_TIMEOUT), VirtualClock())


async def test_a_flushed_server_acknowledges_no_run_until_a_restart(server: ValkeyServer) -> None:
    """Each replica must be restarted, because each has acknowledged runs."""
    stores = [_redis_store(server) for _ in range(2)]
    for store in stores:
        await store.open()
    assert None is await stores[0].create_run(new_run(1), None)
    await stores[0]._connection.execute_one("FLUSHALL")
    for store in stores:
        with pytest.raises(StoreReplaced, match="the data of the store were deleted or replaced"):
            await store.create_run(new_run(2), None)
        assert store.failing
    await stores[0].close()
    await stores[0].open()
    assert None is await stores[0].create_run(new_run(3), None)
    assert not stores[0].failing
    with pytest.raises(StoreReplaced):
        await stores[1].create_run(new_run(4), None)
    for store in stores:
        await store.close()


async def test_a_flush_is_noticed_without_a_new_run(server: ValkeyServer) -> None:
    """Lease renewal and health check verify the generation as well."""
    store = _redis_store(server)
    await store.open()
    await store._connection.execute_one("FLUSHALL")
    states = [store.failing]
    with pytest.raises(StoreReplaced):
        await store.renew_leases("one", 10.0)
    assert [False, True] == [*states, store.failing]
    with pytest.raises(StoreReplaced):
        await store.ping()
    await store.close()
