"""What is known of a server's durability when the store opens, and how a write waits for the server's disk."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from gateway.clock import SystemClock
from gateway.store.contract import StoreUnavailable
from gateway.store.redis import RedisStore
from gateway.store.redis_link import Address, RedisLink
from gateway.store.redis_look import Durability, look
from tests.store.contract import KEY, RUN
from tests.valkey import Valkey, free_port, running_server

NO_FILE = "the server has no append-only file (appendonly is off)"
FORGETS = "the server forgets keys when its memory is full (maxmemory-policy is allkeys-lru)"
CAN_NOT_SAY = "the server can not say when a write is on its disk (appendfsync is everysec, no WAITAOF)"
LETS_GO = "the server does not see to it that its file reaches the disk (appendfsync is no)"
TELLS_NOTHING = "the server does not tell whether it keeps what is written (INFO is not permitted)"

SERVERS: dict[str, tuple[Sequence[tuple[str, ...]], Durability]] = {
    "each write to disk": ((), Durability(None, wait=False)),
    "once a second": ((("CONFIG", "SET", "appendfsync", "everysec"),), Durability(None, wait=True)),
    "whenever the system likes": ((("CONFIG", "SET", "appendfsync", "no"),), Durability(LETS_GO, wait=False)),
    "no file": ((("CONFIG", "SET", "appendonly", "no"),), Durability(NO_FILE, wait=False)),
    "CONFIG is forbidden": ((("ACL", "SETUSER", "default", "-config"),), Durability(None, wait=True)),
    "INFO is forbidden": ((("ACL", "SETUSER", "default", "-info"),), Durability(TELLS_NOTHING, wait=False)),
    "it can not say when": (
        (("CONFIG", "SET", "appendfsync", "everysec"), ("ACL", "SETUSER", "default", "-waitaof")),
        Durability(CAN_NOT_SAY, wait=False),
    ),
    "it forgets": (
        (("CONFIG", "SET", "maxmemory", "1gb"), ("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")),
        Durability(FORGETS, wait=False),
    ),
    "it would forget what may be forgotten": (
        (("CONFIG", "SET", "maxmemory", "1gb"), ("CONFIG", "SET", "maxmemory-policy", "volatile-lru")),
        Durability(None, wait=False),
    ),
}


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Valkey]:
    """A server of this test."""
    with running_server(tmp_path) as running:
        yield running


@pytest.fixture
async def link(server: Valkey) -> AsyncIterator[RedisLink]:
    """A way to it."""
    link = RedisLink(Address("127.0.0.1", server.port), patience=1.0)
    yield link
    await link.close()


@pytest.mark.parametrize("name", SERVERS)
async def test_what_a_server_would_lose_is_known(link: RedisLink, name: str) -> None:
    commands, expected = SERVERS[name]
    for command in commands:
        await link.ask(*command)
    assert expected == await look(link)


async def test_a_weakness_is_told_once_the_store_is_open(link: RedisLink) -> None:
    await link.ask("CONFIG", "SET", "appendonly", "no")
    store = RedisStore(link, SystemClock())
    await store.open()
    assert NO_FILE == store.weakness
    assert await store.begin(RUN, KEY) is None
    await store.close()


async def test_a_write_is_acknowledged_once_it_is_on_the_disk(link: RedisLink, server: Valkey) -> None:
    """R47: where the server writes to its disk once a second, whoever asks waits until it has."""
    await link.ask("CONFIG", "SET", "appendfsync", "everysec")
    store = RedisStore(link, SystemClock())
    await store.open()
    await asyncio.gather(*(store.begin(RUN, None) for _ in range(1)))
    stats = await link.ask("INFO", "commandstats")
    assert b"cmdstat_waitaof" in stats
    assert RUN.id.encode() in b"".join(path.read_bytes() for path in sorted(server.directory.rglob("*.aof")))
    await store.close()


async def test_what_does_not_reach_the_disk_in_time_is_not_acknowledged(link: RedisLink) -> None:
    """R54: the server has it in memory, and nobody knows for how long."""
    await link.ask("CONFIG", "SET", "appendfsync", "everysec")
    store = RedisStore(link, SystemClock())
    await store.open()
    await link.ask("CONFIG", "SET", "appendfsync", "no")  # nothing makes it write before the system feels like it
    with pytest.raises(StoreUnavailable, match="does not say that it is on its disk"):
        await store.begin(RUN, KEY)
    await store.close()


async def test_a_file_that_is_switched_off_is_noticed(link: RedisLink) -> None:
    """R54: what was promised when the store opened holds, or it is unavailable."""
    await link.ask("CONFIG", "SET", "appendfsync", "everysec")
    store = RedisStore(link, SystemClock())
    await store.open()
    await link.ask("CONFIG", "SET", "appendonly", "no")
    with pytest.raises(StoreUnavailable, match="does not say that it is on its disk"):
        await store.begin(RUN, KEY)
    await store.close()


async def test_a_replica_is_no_store(link: RedisLink) -> None:
    """What is written to it is lost."""
    await link.ask("REPLICAOF", "127.0.0.1", 1)
    with pytest.raises(StoreUnavailable, match="read-only replica"):
        await look(link)


async def test_a_cluster_is_no_store(tmp_path: Path) -> None:
    with running_server(tmp_path / "cluster", "--cluster-enabled", "yes", "--cluster-port", str(free_port())) as server:
        link = RedisLink(Address("127.0.0.1", server.port))
        with pytest.raises(StoreUnavailable, match="part of a cluster, which is not supported"):
            await look(link)
        await link.close()
