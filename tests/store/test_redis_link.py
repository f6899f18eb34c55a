"""The way to a server: who we are to it, and what is said when it does not let us in."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator

import pytest
from pydantic import SecretStr

from gateway.store.contract import StoreUnavailable
from gateway.store.redis_link import Address, RedisLink, Refused
from tests.valkey import Valkey, running_server

PASSWORD = SecretStr("canary-password")
PATIENCE = 15.0  # real seconds: only what hangs takes as long


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Valkey]:
    """A server that wants a password; `app` is a user of its own."""
    word = PASSWORD.get_secret_value()
    options = ("--requirepass", word, "--user", "app", "on", f">{word}", "~*", "&*", "+@all")
    with running_server(tmp_path_factory.mktemp("server"), *options, durable=False) as running:
        yield running


@pytest.mark.parametrize("user", [None, "default", "app"])
async def test_who_has_the_password_is_let_in(server: Valkey, user: str | None) -> None:
    link = RedisLink(Address("127.0.0.1", server.port, username=user, password=PASSWORD))
    assert b"PONG" == await link.ask("PING")
    await link.close()


@pytest.mark.parametrize(
    ("user", "password"), [(None, None), (None, SecretStr("wrong-canary")), ("canary-user", PASSWORD)]
)
async def test_who_has_not_is_not_let_in(server: Valkey, user: str | None, password: SecretStr | None) -> None:
    """R79: and neither is quoted."""
    link = RedisLink(Address("127.0.0.1", server.port, username=user, password=password))
    with pytest.raises(StoreUnavailable) as refused:
        await link.ask("PING")
    assert "the server does not accept the user and password" == str(refused.value)
    assert (None, None) == (refused.value.__cause__, refused.value.__context__)
    assert "canary" not in repr(link._pool)
    await link.close()


async def test_each_database_is_its_own(server: Valkey) -> None:
    links = [RedisLink(Address("127.0.0.1", server.port, database=n, password=PASSWORD)) for n in (0, 3)]
    await links[0].ask("SET", "a", 1)
    assert [b"1", None] == [await link.ask("GET", "a") for link in links]
    for link in links:
        await link.close()


async def test_nobody_there_is_unavailable() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and nobody listens
        link = RedisLink(Address("127.0.0.1", taken.getsockname()[1]))
        with pytest.raises(StoreUnavailable, match="can not be reached"):
            await link.ask("PING")
        await link.close()


async def test_a_server_that_does_not_speak_is_unavailable() -> None:
    """It takes the connection and says nothing: R54, no hang."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        link = RedisLink(Address("127.0.0.1", silent.getsockname()[1]), patience=0.2)
        async with asyncio.timeout(PATIENCE):
            with pytest.raises(StoreUnavailable, match="does not answer in time"):
                await link.ask("PING")
        await link.close()


async def test_tls_is_not_spoken_in_the_clear(server: Valkey) -> None:
    """A server without TLS is refused, rather than told the password."""
    link = RedisLink(Address("127.0.0.1", server.port, password=PASSWORD, tls=True))
    with pytest.raises(StoreUnavailable):
        await link.ask("PING")
    await link.close()


async def test_refusals_stand_among_the_replies(server: Valkey) -> None:
    """One of several that are said together does not take the others with it."""
    link = RedisLink(Address("127.0.0.1", server.port, password=PASSWORD))
    replies = await link.say(("SET", "b", 1), ("INCRBY", "b", "x"), ("INCR", "b"))
    assert (b"OK", True, 2) == (replies[0], isinstance(replies[1], Refused), replies[2])
    with pytest.raises(StoreUnavailable, match="refused it"):
        await link.ask("INCRBY", "b", "x")
    await link.close()


async def test_who_gives_up_leaves_no_reply_for_the_next(server: Valkey) -> None:
    """A call that is cancelled while its reply is on the way: nobody else is given that."""
    link = RedisLink(Address("127.0.0.1", server.port, password=PASSWORD), connections=1)
    for number in range(20):
        leaving = asyncio.create_task(link.ask("EVAL", "for i = 1, 100000 do end return 'for another'", 0))
        for _ in range(number):
            await asyncio.sleep(0)
        leaving.cancel()
        await asyncio.wait([leaving])
        assert str(number).encode() == await link.ask("ECHO", number)
    await link.close()


async def test_more_than_the_connections_is_refused(server: Valkey) -> None:
    link = RedisLink(Address("127.0.0.1", server.port, password=PASSWORD), connections=2)
    slow = [asyncio.create_task(link.ask("BLPOP", "nothing", 0.2)) for _ in range(2)]
    await asyncio.sleep(0.05)
    with pytest.raises(StoreUnavailable, match="too many connections"):
        await link.ask("PING")
    assert [None, None] == await asyncio.gather(*slow)
    await link.close()
