"""Connection pool to a Redis or Valkey server: bounded timeouts, and errors without stored values."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import SecretStr
from redis import exceptions
from redis.asyncio import Redis
from redis.asyncio.client import PubSub
from redis.asyncio.connection import Connection, ConnectionPool, SSLConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, RedisError, ResponseError

from gateway.redis.errors import RedisUnavailable
from gateway.redis.script import RedisArgument, RedisReply

ErrorReply = ResponseError
"""A word that the server understood and did not follow."""

_CONNECT_TIMEOUT = 1.0  # seconds

# By the library's class, or by how a refusal begins that it has no class for.
_REASONS_BY_CLASS: dict[type[RedisError], str] = {
    exceptions.OutOfMemoryError: "the server's memory is full",
    exceptions.ReadOnlyError: "the server is a read-only replica",
    exceptions.NoPermissionError: "the server does not permit this user to do it",
    exceptions.AuthenticationError: "the server does not accept the user and password",
    exceptions.BusyLoadingError: "the server is still reading its file",
    exceptions.MovedError: "the server is part of a cluster, which is not supported",
    exceptions.MaxConnectionsError: "too many connections to the server are in use",
    exceptions.TimeoutError: "the server does not answer in time",
}
_REASONS_BY_PREFIX = {
    "MISCONF": "the server can not write to its disk",
    "BUSY": "the server is busy with a script",
    "NOREPLICAS": "the server has too few replicas",
}


def translate_error(error: RedisError | OSError) -> RedisUnavailable:
    """Say what happened in our words: the server's may quote what was to be written."""
    if isinstance(error, TimeoutError):
        return RedisUnavailable("the server does not answer in time")
    known = next((words for kind, words in _REASONS_BY_CLASS.items() if isinstance(error, kind)), None)
    if known is None and isinstance(error, ErrorReply):
        known = _REASONS_BY_PREFIX.get(str(error).split(" ", 1)[0], "the server refused it")
    return RedisUnavailable(known or "the server can not be reached")


@dataclass(frozen=True, slots=True)
class RedisAddress:
    """Where a server is, and who we are to it."""

    host: str
    port: int = 6379
    database: int = 0
    username: str | None = None
    password: SecretStr | None = None
    tls: bool = False


class RedisConnection:
    """At most `connections` to one server. What is said fails after `patience` seconds, whatever the server does."""

    def __init__(self, address: RedisAddress, *, timeout: float = 2.0, connections: int = 64) -> None:
        self.timeout = timeout
        self.failing = False
        """Whether the last thing that was said could not be."""
        self._pool: Any = ConnectionPool(  # not all of its methods say what they return
            connection_class=SSLConnection if address.tls else Connection,
            max_connections=connections,
            host=address.host,
            port=address.port,
            db=address.database,
            username=address.username,
            password=address.password and address.password.get_secret_value(),
            socket_timeout=timeout,
            socket_connect_timeout=min(_CONNECT_TIMEOUT, timeout),
            retry=Retry(NoBackoff(), 0),  # what was said twice might be done twice
            protocol=2,
        )

    async def execute(self, *commands: Sequence[RedisArgument]) -> list[RedisReply]:
        """Say one thing after the other on one connection, in one round trip; refusals are among the replies.

        Raises RedisUnavailable: then nobody knows which of them were heard.
        """
        try:
            async with asyncio.timeout(self.timeout):
                replies = await self._send_and_receive(commands)
        except (RedisError, OSError) as error:
            self.failing = True
            failure = translate_error(error)
        else:
            self.failing = False
            return replies
        raise failure  # out here, without the error and what it quotes

    async def execute_one(self, *command: RedisArgument) -> RedisReply:
        """Say one thing; returns the reply. Raises RedisUnavailable, where it is refused too."""
        (reply,) = await self.execute(command)
        if isinstance(reply, ErrorReply):
            raise translate_error(reply)
        return reply

    @staticmethod
    def is_script_missing(reply: RedisReply) -> bool:
        """Return True for the error reply NOSCRIPT."""
        return isinstance(reply, NoScriptError)

    @staticmethod
    def error_of(reply: RedisReply) -> RedisUnavailable | None:
        """Return the error of an error reply; None for any other reply."""
        return translate_error(reply) if isinstance(reply, ErrorReply) else None

    def pubsub(self) -> PubSub:
        """A connection for listening to channels; what it raises is redis-py's."""
        return Redis(connection_pool=self._pool).pubsub(ignore_subscribe_messages=True)

    async def close(self) -> None:
        """Close every connection."""
        await self._pool.disconnect()

    async def _send_and_receive(self, commands: Sequence[Sequence[RedisArgument]]) -> list[RedisReply]:
        connection = await self._pool.get_connection()
        try:
            await connection.send_packed_command(_encode_commands(commands))
            return [await _read_reply(connection) for _ in commands]
        except BaseException:  # what comes later on it would be taken for somebody else's reply
            await connection.disconnect(nowait=True)
            raise
        finally:
            await self._pool.release(connection)


def _encode_commands(commands: Sequence[Sequence[RedisArgument]]) -> bytes:
    """Write commands as they go over the wire; the library takes three times as long, for kinds that are not ours."""
    parts = []
    for command in commands:
        parts.append(b"*%d\r\n" % len(command))
        for argument in command:
            value = argument if isinstance(argument, bytes) else str(argument).encode()
            parts.append(b"$%d\r\n%b\r\n" % (len(value), value))
    return b"".join(parts)


async def _read_reply(connection: Any) -> RedisReply:
    try:
        return await connection.read_response()
    except ErrorReply as error:
        return error
