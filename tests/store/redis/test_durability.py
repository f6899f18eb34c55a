"""Durability check at the start of the Redis store, and writes that wait for the disk of the server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from gateway.clock import SystemClock
from gateway.redis.connection import RedisAddress, RedisConnection
from gateway.store.contract import StoreUnavailable
from gateway.store.redis.durability import Durability, check_durability
from gateway.store.redis.store import RedisStore
from tests.store.samples import SAMPLE_KEY, SAMPLE_RUN
from tests.support.valkey import ValkeyServer, free_port, requires_server, running_server, server_version

NO_FILE = "the server has no append-only file (appendonly is off)"
EVICTS = "the server evicts keys when its memory is full (maxmemory-policy is allkeys-lru)"
CANNOT_CONFIRM = "the server cannot confirm that a write is on its disk (appendfsync is everysec, no WAITAOF)"
NO_FSYNC = "the server does not sync its file to the disk (appendfsync is no)"
NO_INFO = "the persistence of the server is not known (INFO is not permitted)"

SERVERS: dict[str, tuple[Sequence[tuple[str, ...]], Durability]] = {
    "each write to disk": ((), Durability(None, wait_for_fsync=False)),
    "once a second": ((("CONFIG", "SET", "appendfsync", "everysec"),), Durability(None, wait_for_fsync=True)),
    "by the operating system": (
        (("CONFIG", "SET", "appendfsync", "no"),),
        Durability(NO_FSYNC, wait_for_fsync=False),
    ),
    "no file": ((("CONFIG", "SET", "appendonly", "no"),), Durability(NO_FILE, wait_for_fsync=False)),
    "CONFIG is forbidden": ((("ACL", "SETUSER", "default", "-config"),), Durability(None, wait_for_fsync=True)),
    "INFO is forbidden": ((("ACL", "SETUSER", "default", "-info"),), Durability(NO_INFO, wait_for_fsync=False)),
    "WAITAOF is forbidden": (
        (("CONFIG", "SET", "appendfsync", "everysec"), ("ACL", "SETUSER", "default", "-waitaof")),
        Durability(CANNOT_CONFIRM, wait_for_fsync=False),
    ),
    "keys are evicted": (
        (("CONFIG", "SET", "maxmemory", "1gb"), ("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")),
        Durability(EVICTS, wait_for_fsync=False),
    ),
    "only volatile keys are evicted": (
        (("CONFIG", "SET", "maxmemory", "1gb"), ("CONFIG", "SET", "maxmemory-policy", "volatile-lru")),
        Durability(None, wait_for_fsync=False),
    ),
}
if server_version() < (7, 2):  # no WAITAOF
    del SERVERS["WAITAOF is forbidden"]
    SERVERS["once a second"] = (SERVERS["once a second"][0], Durability(CANNOT_CONFIRM, wait_for_fsync=False))
    unknown = CANNOT_CONFIRM.replace("everysec", "unknown")
    SERVERS["CONFIG is forbidden"] = (SERVERS["CONFIG is forbidden"][0], Durability(unknown, wait_for_fsync=False))


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[ValkeyServer]:
    """Server of this test."""
    with running_server(tmp_path) as running:
        yield running


@pytest.fixture
async def connection(server: ValkeyServer) -> AsyncIterator[RedisConnection]:
    """Connection to the server."""
    link = RedisConnection(RedisAddress("127.0.0.1", server.port), timeout=1.0)
    yield link
    await link.close()


@pytest.mark.parametrize("name", SERVERS)
async def test_a_durability_warning_is_found(connection: RedisConnection, name: str) -> None:
    commands, expected = SERVERS[name]
    for command in commands:
        await connection.execute_one(*command)
    assert expected == await check_durability(connection)


async def test_the_durability_warning_is_known_once_the_store_is_open(connection: RedisConnection) -> None:
    await connection.execute_one("CONFIG", "SET", "appendonly", "no")
    store = RedisStore(connection, SystemClock())
    await store.open()
    assert NO_FILE == store.durability_warning
    assert await store.create_run(SAMPLE_RUN, SAMPLE_KEY) is None
    await store.close()


@requires_server(7, 2)  # WAITAOF
async def test_a_write_is_acknowledged_once_it_is_on_the_disk(
    connection: RedisConnection, server: ValkeyServer
) -> None:
    """R47: with appendfsync everysec, a write waits for the fsync of the server."""
    await connection.execute_one("CONFIG", "SET", "appendfsync", "everysec")
    store = RedisStore(connection, SystemClock())
    await store.open()
    await asyncio.gather(*(store.create_run(SAMPLE_RUN, None) for _ in range(1)))
    stats = await connection.execute_one("INFO", "commandstats")
    assert b"cmdstat_waitaof" in stats
    assert SAMPLE_RUN.id.encode() in b"".join(path.read_bytes() for path in sorted(server.directory.rglob("*.aof")))
    await store.close()


@requires_server(7, 2)  # WAITAOF
async def test_a_write_that_does_not_reach_the_disk_in_time_is_not_acknowledged(connection: RedisConnection) -> None:
    """R54: the server has it in memory only."""
    await connection.execute_one("CONFIG", "SET", "appendfsync", "everysec")
    store = RedisStore(connection, SystemClock())
    await store.open()
    await connection.execute_one(
        "CONFIG", "SET", "appendfsync", "no"
    )  # the operating system decides when the server's file is written
    with pytest.raises(StoreUnavailable, match="does not confirm that the write is on its disk"):
        await store.create_run(SAMPLE_RUN, SAMPLE_KEY)
    await store.close()


@requires_server(7, 2)  # WAITAOF
async def test_a_file_that_is_switched_off_is_noticed(connection: RedisConnection) -> None:
    """R54: if persistence is disabled at run time, the store becomes unavailable."""
    await connection.execute_one("CONFIG", "SET", "appendfsync", "everysec")
    store = RedisStore(connection, SystemClock())
    await store.open()
    await connection.execute_one("CONFIG", "SET", "appendonly", "no")
    with pytest.raises(StoreUnavailable, match="does not confirm that the write is on its disk"):
        await store.create_run(SAMPLE_RUN, SAMPLE_KEY)
    await store.close()


async def test_a_replica_is_no_store(connection: RedisConnection) -> None:
    """Writes to a replica would be lost."""
    await connection.execute_one("REPLICAOF", "127.0.0.1", 1)
    with pytest.raises(StoreUnavailable, match="read-only replica"):
        await check_durability(connection)


@requires_server(7)  # --cluster-port
async def test_a_cluster_is_no_store(tmp_path: Path) -> None:
    with running_server(tmp_path / "cluster", "--cluster-enabled", "yes", "--cluster-port", str(free_port())) as server:
        link = RedisConnection(RedisAddress("127.0.0.1", server.port))
        with pytest.raises(StoreUnavailable, match="part of a cluster, which is not supported"):
            await check_durability(link)
        await link.close()
