"""The way to a server: who we are to it, and what is said when it does not let us in."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator

import pytest
from pydantic import SecretStr

from gateway.redis.connection import ErrorReply, RedisAddress, RedisConnection
from gateway.redis.errors import RedisUnavailable
from tests.support.valkey import ValkeyServer, running_server

PASSWORD = SecretStr("canary-password")
TIMEOUT = 15.0  # real seconds: only what hangs takes as long


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyServer]:
    """A server that wants a password; `app` is a user of its own."""
    word = PASSWORD.get_secret_value()
    options = ("--requirepass", word, "--user", "app", "on", f">{word}", "~*", "&*", "+@all")
    with running_server(tmp_path_factory.mktemp("server"), *options, durable=False) as running:
        yield running


@pytest.mark.parametrize("user", [None, "default", "app"])
async def test_a_user_with_the_password_is_accepted(server: ValkeyServer, user: str | None) -> None:
    connection = RedisConnection(RedisAddress("127.0.0.1", server.port, username=user, password=PASSWORD))
    assert b"PONG" == await connection.execute_one("PING")
    await connection.close()


@pytest.mark.parametrize(
    ("user", "password"), [(None, None), (None, SecretStr("wrong-canary")), ("canary-user", PASSWORD)]
)
async def test_a_user_without_the_password_is_refused(
    server: ValkeyServer, user: str | None, password: SecretStr | None
) -> None:
    """R79: and neither is quoted."""
    connection = RedisConnection(RedisAddress("127.0.0.1", server.port, username=user, password=password))
    with pytest.raises(RedisUnavailable) as refused:
        await connection.execute_one("PING")
    assert "the server does not accept the user and password" == str(refused.value)
    assert (None, None) == (refused.value.__cause__, refused.value.__context__)
    assert "canary" not in repr(connection._pool)
    await connection.close()


async def test_each_database_is_its_own(server: ValkeyServer) -> None:
    connections = [
        RedisConnection(RedisAddress("127.0.0.1", server.port, database=n, password=PASSWORD)) for n in (0, 3)
    ]
    await connections[0].execute_one("SET", "a", 1)
    assert [b"1", None] == [await link.execute_one("GET", "a") for link in connections]
    for connection in connections:
        await connection.close()


async def test_an_unreachable_server_is_unavailable() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and nobody listens
        connection = RedisConnection(RedisAddress("127.0.0.1", taken.getsockname()[1]))
        with pytest.raises(RedisUnavailable, match="can not be reached"):
            await connection.execute_one("PING")
        await connection.close()


async def test_a_silent_server_is_unavailable() -> None:
    """It takes the connection and says nothing: R54, no hang."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        connection = RedisConnection(RedisAddress("127.0.0.1", silent.getsockname()[1]), timeout=0.2)
        async with asyncio.timeout(TIMEOUT):
            with pytest.raises(RedisUnavailable, match="does not answer in time"):
                await connection.execute_one("PING")
        await connection.close()


async def test_tls_is_not_spoken_in_the_clear(server: ValkeyServer) -> None:
    """A server without TLS is refused, rather than told the password."""
    connection = RedisConnection(RedisAddress("127.0.0.1", server.port, password=PASSWORD, tls=True))
    with pytest.raises(RedisUnavailable):
        await connection.execute_one("PING")
    await connection.close()


async def test_error_replies_stand_among_the_replies(server: ValkeyServer) -> None:
    """One of several that are said together does not take the others with it."""
    connection = RedisConnection(RedisAddress("127.0.0.1", server.port, password=PASSWORD))
    replies = await connection.execute(("SET", "b", 1), ("INCRBY", "b", "x"), ("INCR", "b"))
    assert (b"OK", True, 2) == (replies[0], isinstance(replies[1], ErrorReply), replies[2])
    with pytest.raises(RedisUnavailable, match="refused it"):
        await connection.execute_one("INCRBY", "b", "x")
    await connection.close()


async def test_a_cancelled_call_leaves_no_reply_for_the_next(server: ValkeyServer) -> None:
    """A call that is cancelled while its reply is on the way: nobody else is given that."""
    connection = RedisConnection(RedisAddress("127.0.0.1", server.port, password=PASSWORD), connections=1)
    for number in range(20):
        leaving = asyncio.create_task(
            connection.execute_one("EVAL", "for i = 1, 100000 do end return 'for another'", 0)
        )
        for _ in range(number):
            await asyncio.sleep(0)
        leaving.cancel()
        await asyncio.wait([leaving])
        assert str(number).encode() == await connection.execute_one("ECHO", number)
    await connection.close()


async def test_more_than_the_connections_is_refused(server: ValkeyServer) -> None:
    connection = RedisConnection(RedisAddress("127.0.0.1", server.port, password=PASSWORD), connections=2)
    slow = [asyncio.create_task(connection.execute_one("BLPOP", "nothing", 0.2)) for _ in range(2)]
    await asyncio.sleep(0.05)
    with pytest.raises(RedisUnavailable, match="too many connections"):
        await connection.execute_one("PING")
    assert [None, None] == await asyncio.gather(*slow)
    await connection.close()
