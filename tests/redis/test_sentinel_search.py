"""Search for the primary at Sentinel: processes that are lost or silent, and concurrent connections."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from gateway.redis.connection import RedisAddress, RedisConnection, SentinelAddress

_CONNECTIONS = 20


def _encode(value: bytes | list[bytes] | list[list[bytes]]) -> bytes:
    if isinstance(value, bytes):
        return b"$%d\r\n%b\r\n" % (len(value), value)
    return b"*%d\r\n" % len(value) + b"".join(map(_encode, value))


@asynccontextmanager
async def _server(primary: int = 0, *, silent: bool = False) -> AsyncIterator[int]:
    """A server that answers OK to everything, and names the port `primary` if it is asked as a Sentinel process."""
    state = [b"name", b"orders", b"ip", b"127.0.0.1", b"port", str(primary).encode(), b"flags", b"master"]
    state += [b"num-other-sentinels", b"2"]
    writers = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        while start := await reader.readline():
            words = [(await reader.readline(), (await reader.readline()).strip())[1] for _ in range(int(start[1:]))]
            if not silent:
                await asyncio.sleep(0.01)
                writer.write(_encode([state]) if words[0].upper() == b"SENTINEL" else b"+OK\r\n")

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for writer in writers:
            writer.close()


def _connection(*ports: int, timeout: float = 2.0) -> RedisConnection:
    hosts = tuple(("127.0.0.1", port) for port in ports)
    return RedisConnection(RedisAddress("", 0, sentinel=SentinelAddress("orders", hosts)), timeout=timeout)


@pytest.mark.parametrize("seconds", [0.5, 2.0])
async def test_a_process_that_does_not_answer_delays_nothing(seconds: float) -> None:
    async with _server() as primary, _server(silent=True) as silent, _server(primary) as process:
        connection = _connection(silent, process, timeout=seconds)
        assert b"OK" == await connection.execute_one("PING")
        await connection.close()


async def test_concurrent_connections_share_the_search_and_keep_every_process() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        lost = unused.getsockname()[1]
        async with _server() as primary, _server(primary) as one, _server(primary) as other:
            connection = _connection(lost, one, other)
            replies = await asyncio.gather(*(connection.execute_one("PING") for _ in range(_CONNECTIONS)))
            assert [b"OK"] * _CONNECTIONS == replies
            found = connection._pool.connection_kwargs["primary"].sentinel.sentinels
            assert {lost, one, other} == {each.connection_pool.connection_kwargs["port"] for each in found}
            await connection.close()
