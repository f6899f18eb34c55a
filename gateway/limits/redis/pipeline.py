"""Speaks to the server in which replicas share their limits: scripts, in order, many in one round trip."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeAlias

RedisArgument: TypeAlias = bytes | str | int | float

_LUA_DIRECTORY = Path(__file__).parent / "lua"
_MAX_BATCH = 500  # scripts in one round trip


class RedisUnavailable(Exception):
    """The server gave no answer, or not in time, or one that is of no use; nobody knows what it has done."""


class PipelinedConnection(Protocol):
    """A way to the server that gives up soon (`gateway.store.factory.link`)."""

    async def execute(self, *commands: Sequence[RedisArgument]) -> list[object]:
        """Say one thing after the other, in one round trip; refusals, which are exceptions, are among the replies.

        Raises an exception where there is no answer.
        """

    async def close(self) -> None:
        """Close every connection."""


@dataclass(frozen=True, slots=True)
class LimitsScript:
    """Lua, and the SHA-1 under which a server knows it."""

    source: str
    sha: str

    @classmethod
    def load(cls, name: str) -> LimitsScript:
        """Find it by its name."""
        source = (_LUA_DIRECTORY / "prelude.lua").read_text() + (_LUA_DIRECTORY / f"{name}.lua").read_text()
        return cls(source, hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest())


@dataclass(slots=True)
class _ScriptCall:
    script: LimitsScript
    arguments: tuple[RedisArgument, ...]
    reply: asyncio.Future[object]


class ScriptPipeline:
    """Says scripts to the server in the order in which they were handed in: what leaves has left before the next comes.

    While one round trip is on its way, what is handed in gathers for the next one.
    """

    def __init__(self, connection: PipelinedConnection) -> None:
        self._connection = connection
        self._pending: list[_ScriptCall] = []
        self._flush_task: asyncio.Task[None] | None = None

    def submit(
        self, script: LimitsScript, keys: Sequence[str], arguments: Sequence[RedisArgument]
    ) -> asyncio.Future[object]:
        """Run a script; the future has its reply, or ServerLost, even if nobody awaits it any more."""
        loop = asyncio.get_running_loop()
        call = _ScriptCall(script, (len(keys), *keys, *arguments), loop.create_future())
        call.reply.add_done_callback(_retrieve_exception)
        self._pending.append(call)
        if self._flush_task is None:
            self._flush_task = loop.create_task(self._flush())
        return call.reply

    async def close(self) -> None:
        """Say what is left to say, and close the connections."""
        if self._flush_task is not None:
            await asyncio.wait([self._flush_task])
        await self._connection.close()

    async def _flush(self) -> None:
        try:
            while self._pending:
                batch, self._pending = self._pending[:_MAX_BATCH], self._pending[_MAX_BATCH:]
                await self._send_batch(batch)
        finally:
            self._flush_task = None

    async def _send_batch(self, batch: list[_ScriptCall]) -> None:
        try:
            replies = await self._connection.execute(*(("EVALSHA", said.script.sha, *said.arguments) for said in batch))
            missing = [
                n for n, reply in enumerate(replies) if str(reply).startswith(("NOSCRIPT", "No matching script"))
            ]
            if missing:
                evals = (("EVAL", batch[n].script.source, *batch[n].arguments) for n in missing)
                for n, reply in zip(missing, await self._connection.execute(*evals), strict=True):
                    replies[n] = reply
        except Exception as error:  # noqa: BLE001 - the link's own, redis-py's, the network's: all mean the same
            batch, self._pending = batch + self._pending, []  # so that nobody waits twice
            replies = [error] * len(batch)
        for call, reply in zip(batch, replies, strict=True):
            if call.reply.done():
                continue
            if isinstance(reply, Exception):
                call.reply.set_exception(RedisUnavailable(type(reply).__name__))
            else:
                call.reply.set_result(reply)


def _retrieve_exception(reply: asyncio.Future[object]) -> None:
    if not reply.cancelled():
        reply.exception()
