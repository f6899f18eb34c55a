"""Connection pool to Redis: authentication, errors, failover and TLS."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from pydantic import SecretStr
from redis.exceptions import ResponseError

from gateway.redis.connection import ErrorReply, RedisAddress, RedisConnection, translate_error
from gateway.redis.errors import RedisUnavailable
from gateway.settings.sections import TlsFiles
from gateway.settings.types.secret_reference import FileSecret
from tests.support.fake_upstream import certificates
from tests.support.fake_upstream.upstream import unresponsive_port
from tests.support.valkey import ValkeyServer, running_server

PASSWORD = SecretStr("canary-password")
TIMEOUT = 15.0  # real seconds: only what hangs takes as long


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyServer]:
    """Server with a password; `app` is an additional user."""
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
    """R79: the error quotes neither."""
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
        taken.bind(("127.0.0.1", 0))  # without a listener
        connection = RedisConnection(RedisAddress("127.0.0.1", taken.getsockname()[1]))
        with pytest.raises(RedisUnavailable, match="cannot be reached"):
            await connection.execute_one("PING")
        await connection.close()


async def test_a_silent_server_is_unavailable() -> None:
    """R54: a server that accepts connections and does not respond causes a timeout."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        connection = RedisConnection(RedisAddress("127.0.0.1", silent.getsockname()[1]), timeout=0.2)
        async with asyncio.timeout(TIMEOUT):
            with pytest.raises(RedisUnavailable, match="does not answer in time"):
                await connection.execute_one("PING")
        await connection.close()


async def test_tls_is_not_spoken_in_the_clear(server: ValkeyServer) -> None:
    """A server without TLS is refused, and does not receive the password."""
    connection = RedisConnection(RedisAddress("127.0.0.1", server.port, password=PASSWORD, tls=True))
    with pytest.raises(RedisUnavailable):
        await connection.execute_one("PING")
    await connection.close()


async def test_error_replies_stand_among_the_replies(server: ValkeyServer) -> None:
    """An error of one command in a batch does not affect the others."""
    connection = RedisConnection(RedisAddress("127.0.0.1", server.port, password=PASSWORD))
    replies = await connection.execute(("SET", "b", 1), ("INCRBY", "b", "x"), ("INCR", "b"))
    assert (b"OK", True, 2) == (replies[0], isinstance(replies[1], ErrorReply), replies[2])
    with pytest.raises(RedisUnavailable, match="refused it"):
        await connection.execute_one("INCRBY", "b", "x")
    await connection.close()


async def test_a_cancelled_call_leaves_no_reply_for_the_next(server: ValkeyServer) -> None:
    """The late reply of a cancelled call is not the reply of the next call."""
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


# Failover.


class ScriptedServer:
    """RESP server that sends `reply` to each command, and counts its connections."""

    def __init__(self) -> None:
        self.reply = b"+PONG\r\n"
        self.connections = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        while line := await reader.readline():
            arguments = [await reader.readline() for _ in range(2 * int(line[1:]))]
            writer.write(self.reply if arguments[1] == b"PING\r\n" else b"+OK\r\n")
            await writer.drain()
        writer.close()


@pytest.mark.parametrize(
    "reply",
    [
        b"-READONLY You can't write against a read only replica.",
        b"-ERR Error running script (call to f_1): @user_script:1: -READONLY You can't write against a replica.",
        b"-LOADING Redis is loading the dataset in memory",
        b"-MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
        b"-NOAUTH Authentication required.",
    ],
)
async def test_a_failover_reply_replaces_the_pool(reply: bytes) -> None:
    """The call fails, and the next one uses a new connection, to the address that the host name then has."""
    script = ScriptedServer()
    async with await asyncio.start_server(script.serve, "127.0.0.1", 0) as listening:
        connection = RedisConnection(RedisAddress("127.0.0.1", listening.sockets[0].getsockname()[1]))
        assert [b"PONG", b"PONG"] == [await connection.execute_one("PING") for _ in range(2)]
        assert (1, False) == (script.connections, connection.failing)
        script.reply = reply + b"\r\n"
        with pytest.raises(RedisUnavailable):
            await connection.execute_one("PING")
        assert (1, True) == (script.connections, connection.failing)
        script.reply = b"+PONG\r\n"
        assert b"PONG" == await connection.execute_one("PING")
        assert (2, False) == (script.connections, connection.failing)
        await connection.close()


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("OOM", "the server's memory is full"),
        ("MISCONF", "the server cannot write to its disk"),
        ("NOREPLICAS", "the server has too few replicas"),
        ("READONLY", "the server is a read-only replica"),
        ("WRONGTYPE", "the server refused it"),
    ],
)
def test_an_error_within_a_script_of_an_old_server_has_its_reason(code: str, reason: str) -> None:
    """Redis 6.2 embeds it in the error of the script."""
    error = ResponseError(f"Error running script (call to f_1): @user_script:1: -{code} the text may quote values")
    assert reason == str(translate_error(error))


async def test_the_new_primary_is_used_after_a_failover(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The host name has a new address and the old server is a replica: the second write succeeds."""
    with running_server(tmp_path / "one", durable=False) as old, running_server(tmp_path / "two", durable=False) as new:
        primary = old
        monkeypatch.setattr(
            socket,
            "getaddrinfo",
            lambda *_, **__: [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", primary.port))],
        )
        connection = RedisConnection(RedisAddress("redis.example"))
        write = ("EVAL", "return redis.call('SET', KEYS[1], 1)", 1, "a")
        assert b"OK" == await connection.execute_one(*write)
        await connection.execute_one("REPLICAOF", "127.0.0.1", new.port)
        primary = new
        with pytest.raises(RedisUnavailable, match="the server is a read-only replica"):
            await connection.execute_one(*write)
        states = [connection.failing]
        assert b"OK" == await connection.execute_one(*write)
        assert [True, False] == [*states, connection.failing]
        await connection.close()


async def test_calls_in_flight_complete_after_a_failover_reply() -> None:
    """Connections in use stay open: their replies may be those of executed writes."""
    gate = asyncio.Event()
    calls = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal calls
        while line := await reader.readline():
            words = [await reader.readline() for _ in range(2 * int(line[1:]))]
            if words[1] == b"SLOW\r\n":
                calls += 1
                await gate.wait()
                writer.write(b"+DONE\r\n")
            else:
                writer.write(b"-READONLY replica\r\n" if words[1] == b"WRITE\r\n" else b"+OK\r\n")
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as listening:
        connection = RedisConnection(RedisAddress("127.0.0.1", listening.sockets[0].getsockname()[1]))
        slow = asyncio.create_task(connection.execute_one("SLOW"))
        while not calls:
            await asyncio.sleep(0.001)
        with pytest.raises(RedisUnavailable):
            await connection.execute_one("WRITE")
        gate.set()
        assert b"DONE" == await slow
        await connection.close()


async def test_a_rotated_password_file_is_read_at_the_next_connection(server: ValkeyServer, tmp_path: Path) -> None:
    """After a password change and closed connections, without restart or configuration change."""
    path = tmp_path / "password"
    path.write_text("first-canary-password")
    admin = RedisConnection(RedisAddress("127.0.0.1", server.port, password=PASSWORD))
    await admin.execute_one("ACL", "SETUSER", "rotated", "on", ">first-canary-password", "+@all")
    secret = FileSecret("first-canary-password", path)
    connection = RedisConnection(RedisAddress("127.0.0.1", server.port, username="rotated", password=secret))
    assert b"PONG" == await connection.execute_one("PING")
    await admin.execute_one("ACL", "SETUSER", "rotated", "resetpass", ">second-canary-password")
    await admin.execute_one("CLIENT", "KILL", "USER", "rotated")
    with pytest.raises(RedisUnavailable):
        await connection.execute_one("PING")
    with pytest.raises(RedisUnavailable, match="does not accept the user and password"):
        await connection.execute_one("PING")
    path.write_text("second-canary-password\n")
    assert b"PONG" == await connection.execute_one("PING")
    for each in (admin, connection):
        await each.close()


async def test_a_silent_address_does_not_cost_the_call(server: ValkeyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name with a silent first address: the second one is tried meanwhile (RFC 8305)."""
    with unresponsive_port() as silent_url:
        silent = urlsplit(silent_url)
        found = [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", address)
            for address in ((silent.hostname, silent.port), ("127.0.0.1", server.port))
        ]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
        connection = RedisConnection(RedisAddress("redis.example", password=PASSWORD))
        assert b"PONG" == await connection.execute_one("PING")
        await connection.close()


# TLS.


@pytest.mark.skipif(not certificates.openssl_available(), reason="there is no openssl")
async def test_a_server_with_a_private_authority_and_mutual_tls(tmp_path: Path) -> None:
    """With the CA file and the client certificate the server answers; without one of them it does not."""
    authority = certificates.new_authority(tmp_path)
    context = authority.trusted()
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(authority.ca_file)
    script = ScriptedServer()
    complete = TlsFiles(authority.ca_file, tmp_path / "trusted.pem", tmp_path / "trusted.key")
    answers = []
    async with await asyncio.start_server(script.serve, "127.0.0.1", 0, ssl=context) as listening:
        port = listening.sockets[0].getsockname()[1]
        for files in (complete, replace(complete, ca_file=None), TlsFiles(authority.ca_file)):
            connection = RedisConnection(RedisAddress("127.0.0.1", port, tls=True, tls_files=files))
            try:
                answers.append(await connection.execute_one("PING"))
            except RedisUnavailable as refused:
                answers.append(str(refused))
            await connection.close()
    assert [b"PONG", "the server cannot be reached", "the server cannot be reached"] == answers
