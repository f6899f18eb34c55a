"""A connection to a Redis or Valkey server that never keeps anybody waiting."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from redis.asyncio.connection import Connection, parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ResponseError

from gateway.access.redis_server import Word


class OneConnection:
    """One connection, opened when it is needed. What is said fails after `patience` seconds, whatever happens."""

    def __init__(self, url: str, *, patience: float = 0.5) -> None:
        self._patience = patience
        self._connection = Connection(
            **parse_url(url),
            socket_timeout=patience,
            socket_connect_timeout=patience,
            retry=Retry(NoBackoff(), 0),
            protocol=2,
        )

    async def say(self, *commands: Sequence[Word]) -> list[object]:
        """See `Link.say`."""
        connection = self._connection
        try:
            async with asyncio.timeout(self._patience):
                await connection.connect()  # type: ignore[no-untyped-call] # redis-py's own
                await connection.send_packed_command(connection.pack_commands(commands))
                return [await self._reply() for _ in commands]
        except BaseException:  # what comes later on it would be taken for another reply
            await connection.disconnect(nowait=True)
            raise

    async def close(self) -> None:
        """See `Link.close`."""
        await self._connection.disconnect(nowait=True)

    async def _reply(self) -> object:
        try:
            return await self._connection.read_response()
        except ResponseError as refusal:
            return refusal
