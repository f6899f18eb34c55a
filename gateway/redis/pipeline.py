"""Script pipeline: concurrent calls of Lua scripts share round trips to a Redis or Valkey server (group commit).

Calls submitted while a batch is in flight are sent with the next batch, so a batch costs one round trip however many
calls it has. The rate limits have one batch in flight (`lanes=1`), which keeps the calls in order; the store has
several, each on a separate connection, and optionally waits until the server has the batch on its disk (WAITAOF).

The module does not import redis-py, which is an optional dependency.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from gateway.redis.errors import RedisUnavailable
from gateway.redis.lua_script import RedisArgument, RedisReply, RedisScript

MAX_QUEUED = 10_000
"""Calls in the queue above which `execute` refuses new calls (backpressure)."""

_SUBMIT_TIMEOUT_FACTOR = 1.5  # of the connection's timeout: part of it is spent in the queue
_TIMER_TOLERANCE = 0.01  # seconds by which a timer may fire early
_WAITAOF_TIMEOUT = 750  # milliseconds per second of the connection's timeout: the server answers first


class ScriptConnection(Protocol):
    """Connection pool to one server; `gateway.redis.connection.RedisConnection` implements it."""

    @property
    def timeout(self) -> float:
        """Seconds after which `execute` fails."""

    async def execute(self, *commands: Sequence[RedisArgument]) -> list[RedisReply]:
        """Send commands on one connection in one round trip; error replies are exceptions in the result.

        Raises RedisUnavailable if there is no complete answer.
        """

    async def close(self) -> None:
        """Close every connection."""

    def is_script_missing(self, reply: RedisReply) -> bool:
        """Return True for the error reply NOSCRIPT."""

    def error_of(self, reply: RedisReply) -> RedisUnavailable | None:
        """Return the error of an error reply; None for any other reply."""


@dataclass(slots=True)
class _ScriptCall:
    """A script, its number of keys, keys and arguments, and the future with the reply."""

    script: RedisScript
    arguments: tuple[RedisArgument, ...]
    reply: asyncio.Future[RedisReply]


class _ExpiringReplies:
    """Replies that fail `seconds` after they were added: one timer for all of them, instead of one for each."""

    __slots__ = ("_replies", "_seconds", "_timer")

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._replies: deque[tuple[float, asyncio.Future[RedisReply]]] = deque()  # with their ends, in that order
        self._timer: asyncio.TimerHandle | None = None  # for the first one

    def add(self, reply: asyncio.Future[RedisReply]) -> None:
        """Let a reply fail with RedisUnavailable, unless it is there in time."""
        loop = reply.get_loop()
        self._drop_done()
        self._replies.append((loop.time() + self._seconds, reply))
        if self._timer is None:
            self._timer = loop.call_later(self._seconds, self._expire)

    def _expire(self) -> None:
        loop, self._timer = asyncio.get_running_loop(), None
        now = loop.time() + _TIMER_TOLERANCE
        while self._replies and self._replies[0][0] <= now:
            _, reply = self._replies.popleft()
            if not reply.done():
                reply.set_exception(RedisUnavailable("the server does not answer in time"))
        self._drop_done()
        if self._replies:
            self._timer = loop.call_at(self._replies[0][0], self._expire)

    def _drop_done(self) -> None:
        while self._replies and self._replies[0][1].done():
            self._replies.popleft()


class ScriptPipeline:
    """Executes scripts in batches of at most `max_batch` calls; at most `lanes` batches are in flight.

    With `lanes=1`, calls are executed in the order of submission, and a failed batch fails every queued call too, so
    that no caller waits for a second timeout. With `wait_for_fsync`, a call succeeds once its batch is on the server's
    disk.
    """

    def __init__(
        self, connection: ScriptConnection, *, lanes: int, max_batch: int, wait_for_fsync: bool = False
    ) -> None:
        self._connection = connection
        self._lanes = lanes
        self._max_batch = max_batch
        self._trailing_commands: tuple[tuple[RedisArgument, ...], ...] = ()
        if wait_for_fsync:
            self._trailing_commands = (("WAITAOF", 1, 0, int(connection.timeout * _WAITAOF_TIMEOUT)),)
        self._queue: deque[_ScriptCall] = deque()
        self._senders: set[asyncio.Task[None]] = set()
        self._expiring = _ExpiringReplies(connection.timeout * _SUBMIT_TIMEOUT_FACTOR)
        self._loaded: set[str] = set()  # SHA-1 of the scripts that the server is known to have

    @property
    def idle(self) -> bool:
        """True if no call is queued or in flight."""
        return not self._senders

    def submit(
        self, script: RedisScript, keys: Sequence[str], arguments: Sequence[RedisArgument]
    ) -> asyncio.Future[RedisReply]:
        """Queue a call; the future has the reply, or RedisUnavailable, which need not be retrieved."""
        call = _ScriptCall(script, (len(keys), *keys, *arguments), asyncio.get_running_loop().create_future())
        call.reply.add_done_callback(_retrieve_exception)
        self._queue.append(call)
        if len(self._senders) < self._lanes and len(self._queue) % self._max_batch == 1:
            # The task starts in the next iteration of the event loop: calls submitted in this one join the batch.
            self._senders.add(asyncio.get_running_loop().create_task(self._send_batches()))
        return call.reply

    async def execute(self, script: RedisScript, keys: Sequence[str], arguments: Sequence[RedisArgument]) -> RedisReply:
        """Execute a script and return its reply.

        Raises RedisUnavailable: at once if the queue is full, else after 1.5 times the connection's timeout at most.
        """
        if len(self._queue) >= MAX_QUEUED:
            raise RedisUnavailable("too many calls wait for the server")
        reply = self.submit(script, keys, arguments)
        self._expiring.add(reply)
        return await reply

    async def close(self) -> None:
        """Wait until every queued call has its reply. The connection stays open."""
        while self._senders:
            await asyncio.wait(self._senders)

    async def _send_batches(self) -> None:
        try:
            while self._queue:
                batch = [self._queue.popleft() for _ in range(min(self._max_batch, len(self._queue)))]
                calls = [call for call in batch if not call.reply.done()]  # the callers of the others have timed out
                if calls:
                    await self._send_batch(calls)
        finally:
            self._senders.remove(_current_task())

    async def _send_batch(self, calls: Sequence[_ScriptCall]) -> None:
        try:
            replies = await self._execute_batch(calls)
        except RedisUnavailable as failure:
            self._fail(calls, failure)
        except Exception as error:  # noqa: BLE001 - a defect must not leave a caller without a reply
            self._fail(calls, RedisUnavailable(type(error).__name__))
        else:
            for call, reply in zip(calls, replies, strict=True):
                _resolve(call, self._connection.error_of(reply) or reply)

    def _fail(self, calls: Sequence[_ScriptCall], failure: RedisUnavailable) -> None:
        self._loaded.clear()  # the next connection may be to a server that was restarted
        queued: Sequence[_ScriptCall] = ()
        if self._lanes == 1:
            queued, self._queue = self._queue, deque()
        for call in (*calls, *queued):
            _resolve(call, failure)

    async def _execute_batch(self, calls: Sequence[_ScriptCall]) -> list[RedisReply]:
        """Execute the calls; a script that the server lost since (SCRIPT FLUSH) is sent again with its text."""
        loaded = self._loaded
        replies = await self._send([_command(call, with_text=call.script.sha not in loaded) for call in calls])
        missing = [index for index, reply in enumerate(replies) if self._connection.is_script_missing(reply)]
        if missing:
            retried = await self._send([_command(calls[index], with_text=True) for index in missing])
            for index, reply in zip(missing, retried, strict=True):
                replies[index] = reply
        loaded.update(call.script.sha for call in calls)
        return replies

    async def _send(self, commands: Sequence[Sequence[RedisArgument]]) -> list[RedisReply]:
        replies = await self._connection.execute(*commands, *self._trailing_commands)
        for waitaof_reply in replies[len(commands) :]:
            if self._connection.error_of(waitaof_reply) is not None or waitaof_reply[0] < 1:
                raise RedisUnavailable("the server does not confirm that the write is on its disk")
        return replies[: len(commands)]


def _command(call: _ScriptCall, *, with_text: bool) -> tuple[RedisArgument, ...]:
    """EVAL on the first use, which also caches the script; EVALSHA from then on."""
    if with_text:
        return ("EVAL", call.script.text, *call.arguments)
    return ("EVALSHA", call.script.sha, *call.arguments)


def _resolve(call: _ScriptCall, reply: RedisReply) -> None:
    if call.reply.done():  # its caller was cancelled or has timed out
        return
    if isinstance(reply, RedisUnavailable):
        call.reply.set_exception(reply)
    else:
        call.reply.set_result(reply)


def _retrieve_exception(reply: asyncio.Future[RedisReply]) -> None:
    if not reply.cancelled():
        reply.exception()


def _current_task() -> asyncio.Task[None]:
    task = asyncio.current_task()
    assert task is not None  # noqa: S101 - called in a task only
    return task
