"""What is said to the Redis server at the same time travels together, and waits for the server's disk together.

A batch costs one round trip, and so does one call. Several batches are on their way at once, each on a connection of
its own; how many, and how much may wait for them, is bounded.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from redis.exceptions import NoScriptError

from gateway.redis.connection import ErrorReply, RedisArgument, RedisConnection, RedisReply, translate_error
from gateway.store.contract import StoreUnavailable
from gateway.store.redis.scripts import StoreScript

MAX_QUEUED = 10_000
"""Calls that may wait; beyond that the server is too slow, and new ones are refused at once."""

_MAX_BATCH = 200  # in one batch, so that the first does not wait for the last of very many


@dataclass(frozen=True, slots=True)
class _BatchedCall:
    """A script and its words, and who waits for the reply."""

    script: StoreScript
    arguments: tuple[RedisArgument, ...]
    future: asyncio.Future[RedisReply]

    def evalsha_command(self, prefix: str) -> tuple[RedisArgument, ...]:
        """As it is said to a server that knows the script."""
        return ("EVALSHA", self.script.sha, 1, prefix, *self.arguments)

    def eval_command(self, prefix: str) -> tuple[RedisArgument, ...]:
        """As it is said to one that does not, yet."""
        return ("EVAL", self.script.text, 1, prefix, *self.arguments)


class ScriptBatcher:
    """Runs scripts over `link`, whose keys begin with `prefix`; at most `lanes` batches at once.

    With `until_on_disk` a reply is believed once the server has what was written so far on its disk.
    """

    def __init__(
        self, connection: RedisConnection, prefix: str, *, max_in_flight: int = 8, wait_for_fsync: bool = False
    ) -> None:
        self._connection = connection
        self._prefix = prefix
        self._max_in_flight = max_in_flight
        self._trailing_commands: tuple[tuple[RedisArgument, ...], ...] = ()
        if wait_for_fsync:
            self._trailing_commands = (
                ("WAITAOF", 1, 0, int(connection.timeout * 750)),
            )  # ms: it should say so before we give up
        self._queue: deque[_BatchedCall] = deque()
        self._senders: set[asyncio.Task[None]] = set()

    async def execute(self, script: StoreScript, *arguments: RedisArgument) -> RedisReply:
        """Run a script; returns its reply. Raises StoreUnavailable, soon, whatever the server does."""
        if len(self._queue) >= MAX_QUEUED:
            raise StoreUnavailable("too many calls wait for the server")
        call = _BatchedCall(script, arguments, asyncio.get_running_loop().create_future())
        self._queue.append(call)
        if len(self._senders) < self._max_in_flight and len(self._queue) == 1:
            task = asyncio.create_task(
                self._send_batches()
            )  # it begins when this turn of the loop is over: others may join
            self._senders.add(task)
            task.add_done_callback(self._senders.discard)
        try:
            async with asyncio.timeout(self._connection.timeout * 1.5):  # some of it is spent in line
                return await call.future
        except TimeoutError:
            raise StoreUnavailable("the server does not answer in time") from None

    async def close(self) -> None:
        """Let what is on its way be answered."""
        while self._senders:
            await asyncio.wait(self._senders)

    async def _send_batches(self) -> None:
        while self._queue:
            taken = [self._queue.popleft() for _ in range(min(_MAX_BATCH, len(self._queue)))]
            calls = [call for call in taken if not call.future.done()]  # the others have given up
            try:
                await self._execute_batch(calls)
            except StoreUnavailable as failure:
                for call in calls:
                    _resolve(call, failure)

    async def _execute_batch(self, calls: Sequence[_BatchedCall]) -> None:
        replies = await self._send([call.evalsha_command(self._prefix) for call in calls])
        unloaded = [place for place, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
        if unloaded:  # the server is a new one; nothing of these was done
            retried = await self._send([calls[place].eval_command(self._prefix) for place in unloaded])
            for index, reply in zip(unloaded, retried, strict=True):
                replies[index] = reply
        for call, reply in zip(calls, replies, strict=True):
            _resolve(call, translate_error(reply) if isinstance(reply, ErrorReply) else reply)

    async def _send(self, commands: Sequence[Sequence[RedisArgument]]) -> list[RedisReply]:
        replies = await self._connection.execute(*commands, *self._trailing_commands)
        for waitaof_reply in replies[len(commands) :]:
            if isinstance(waitaof_reply, ErrorReply) or waitaof_reply[0] < 1:
                raise StoreUnavailable("the server does not say that it is on its disk")
        return replies[: len(commands)]


def _resolve(call: _BatchedCall, reply: RedisReply) -> None:
    if call.future.done():  # its caller has gone
        return
    if isinstance(reply, StoreUnavailable):
        call.future.set_exception(reply)
    else:
        call.future.set_result(reply)
