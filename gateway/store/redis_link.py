"""The way to a Redis or Valkey server: connections that give up soon, and every failure in our words."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from pydantic import SecretStr
from redis import exceptions
from redis.asyncio import Redis
from redis.asyncio.client import PubSub
from redis.asyncio.connection import Connection, ConnectionPool, SSLConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError

from gateway.store.contract import StoreUnavailable
from gateway.store.redis_scripts import Word

Refused = ResponseError
"""A word that the server understood and did not follow."""

Reply: TypeAlias = Any
"""bytes, int, None, a list of replies, or `Refused`."""

_CONNECT = 1.0  # seconds

# By the library's class, or by how a refusal begins that it has no class for.
_CLASSES: dict[type[RedisError], str] = {
    exceptions.OutOfMemoryError: "the server's memory is full",
    exceptions.ReadOnlyError: "the server is a read-only replica",
    exceptions.NoPermissionError: "the server does not permit this user to do it",
    exceptions.AuthenticationError: "the server does not accept the user and password",
    exceptions.BusyLoadingError: "the server is still reading its file",
    exceptions.MovedError: "the server is part of a cluster, which is not supported",
    exceptions.MaxConnectionsError: "too many connections to the server are in use",
    exceptions.TimeoutError: "the server does not answer in time",
}
_BEGINNINGS = {
    "MISCONF": "the server can not write to its disk",
    "BUSY": "the server is busy with a script",
    "NOREPLICAS": "the server has too few replicas",
}


def unavailable(error: RedisError | OSError) -> StoreUnavailable:
    """Say what happened in our words: the server's may quote what was to be written."""
    if isinstance(error, TimeoutError):
        return StoreUnavailable("the server does not answer in time")
    known = next((words for kind, words in _CLASSES.items() if isinstance(error, kind)), None)
    if known is None and isinstance(error, Refused):
        known = _BEGINNINGS.get(str(error).split(" ", 1)[0], "the server refused it")
    return StoreUnavailable(known or "the server can not be reached")


@dataclass(frozen=True, slots=True)
class Address:
    """Where a server is, and who we are to it."""

    host: str
    port: int = 6379
    database: int = 0
    username: str | None = None
    password: SecretStr | None = None
    tls: bool = False


class RedisLink:
    """At most `connections` to one server. What is said fails after `patience` seconds, whatever the server does."""

    def __init__(self, address: Address, *, patience: float = 2.0, connections: int = 64) -> None:
        self.patience = patience
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
            socket_timeout=patience,
            socket_connect_timeout=min(_CONNECT, patience),
            retry=Retry(NoBackoff(), 0),  # what was said twice might be done twice
            protocol=2,
        )

    async def say(self, *commands: Sequence[Word]) -> list[Reply]:
        """Say one thing after the other on one connection, in one round trip; refusals are among the replies.

        Raises StoreUnavailable: then nobody knows which of them were heard.
        """
        try:
            async with asyncio.timeout(self.patience):
                replies = await self._exchange(commands)
        except (RedisError, OSError) as error:
            self.failing = True
            failure = unavailable(error)
        else:
            self.failing = False
            return replies
        raise failure  # out here, without the error and what it quotes

    async def ask(self, *command: Word) -> Reply:
        """Say one thing; returns the reply. Raises StoreUnavailable, where it is refused too."""
        (reply,) = await self.say(command)
        if isinstance(reply, Refused):
            raise unavailable(reply)
        return reply

    def listener(self) -> PubSub:
        """A connection for listening to channels; what it raises is redis-py's."""
        return Redis(connection_pool=self._pool).pubsub(ignore_subscribe_messages=True)

    async def close(self) -> None:
        """Close every connection."""
        await self._pool.disconnect()

    async def _exchange(self, commands: Sequence[Sequence[Word]]) -> list[Reply]:
        connection = await self._pool.get_connection()
        try:
            await connection.send_packed_command(_packed(commands))
            return [await _reply(connection) for _ in commands]
        except BaseException:  # what comes later on it would be taken for somebody else's reply
            await connection.disconnect(nowait=True)
            raise
        finally:
            await self._pool.release(connection)


def _packed(commands: Sequence[Sequence[Word]]) -> bytes:
    """Write commands as they go over the wire; the library takes three times as long, for kinds that are not ours."""
    parts = []
    for command in commands:
        parts.append(b"*%d\r\n" % len(command))
        for word in command:
            value = word if isinstance(word, bytes) else str(word).encode()
            parts.append(b"$%d\r\n%b\r\n" % (len(value), value))
    return b"".join(parts)


async def _reply(connection: Any) -> Reply:
    try:
        return await connection.read_response()
    except Refused as error:
        return error
