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

from gateway.store.contract import StoreUnavailable
from gateway.store.redis_link import RedisLink, Refused, Reply, unavailable
from gateway.store.redis_scripts import Script, Word

MOST_WAITING = 10_000
"""Calls that may wait; beyond that the server is too slow, and new ones are refused at once."""

_MOST_TOGETHER = 200  # in one batch, so that the first does not wait for the last of very many


@dataclass(frozen=True, slots=True)
class _Call:
    """A script and its words, and who waits for the reply."""

    script: Script
    words: tuple[Word, ...]
    reply: asyncio.Future[Reply]

    def by_name(self, prefix: str) -> tuple[Word, ...]:
        """As it is said to a server that knows the script."""
        return ("EVALSHA", self.script.sha, 1, prefix, *self.words)

    def by_text(self, prefix: str) -> tuple[Word, ...]:
        """As it is said to one that does not, yet."""
        return ("EVAL", self.script.text, 1, prefix, *self.words)


class Batches:
    """Runs scripts over `link`, whose keys begin with `prefix`; at most `lanes` batches at once.

    With `until_on_disk` a reply is believed once the server has what was written so far on its disk.
    """

    def __init__(self, link: RedisLink, prefix: str, *, lanes: int = 8, until_on_disk: bool = False) -> None:
        self._link = link
        self._prefix = prefix
        self._lanes = lanes
        self._ending: tuple[tuple[Word, ...], ...] = ()
        if until_on_disk:
            self._ending = (("WAITAOF", 1, 0, int(link.patience * 750)),)  # ms: it should say so before we give up
        self._waiting: deque[_Call] = deque()
        self._at_work: set[asyncio.Task[None]] = set()

    async def run(self, script: Script, *words: Word) -> Reply:
        """Run a script; returns its reply. Raises StoreUnavailable, soon, whatever the server does."""
        if len(self._waiting) >= MOST_WAITING:
            raise StoreUnavailable("too many calls wait for the server")
        call = _Call(script, words, asyncio.get_running_loop().create_future())
        self._waiting.append(call)
        if len(self._at_work) < self._lanes and len(self._waiting) == 1:
            task = asyncio.create_task(self._work())  # it begins when this turn of the loop is over: others may join
            self._at_work.add(task)
            task.add_done_callback(self._at_work.discard)
        try:
            async with asyncio.timeout(self._link.patience * 1.5):  # some of it is spent in line
                return await call.reply
        except TimeoutError:
            raise StoreUnavailable("the server does not answer in time") from None

    async def close(self) -> None:
        """Let what is on its way be answered."""
        while self._at_work:
            await asyncio.wait(self._at_work)

    async def _work(self) -> None:
        while self._waiting:
            taken = [self._waiting.popleft() for _ in range(min(_MOST_TOGETHER, len(self._waiting)))]
            calls = [call for call in taken if not call.reply.done()]  # the others have given up
            try:
                await self._exchange(calls)
            except StoreUnavailable as failure:
                for call in calls:
                    _settle(call, failure)

    async def _exchange(self, calls: Sequence[_Call]) -> None:
        replies = await self._say([call.by_name(self._prefix) for call in calls])
        unknown = [place for place, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
        if unknown:  # the server is a new one; nothing of these was done
            again = await self._say([calls[place].by_text(self._prefix) for place in unknown])
            for place, reply in zip(unknown, again, strict=True):
                replies[place] = reply
        for call, reply in zip(calls, replies, strict=True):
            _settle(call, unavailable(reply) if isinstance(reply, Refused) else reply)

    async def _say(self, commands: Sequence[Sequence[Word]]) -> list[Reply]:
        replies = await self._link.say(*commands, *self._ending)
        for kept in replies[len(commands) :]:
            if isinstance(kept, Refused) or kept[0] < 1:
                raise StoreUnavailable("the server does not say that it is on its disk")
        return replies[: len(commands)]


def _settle(call: _Call, reply: Reply) -> None:
    if call.reply.done():  # its caller has gone
        return
    if isinstance(reply, StoreUnavailable):
        call.reply.set_exception(reply)
    else:
        call.reply.set_result(reply)
