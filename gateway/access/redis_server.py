"""Speaks to the server in which replicas share their limits: scripts, in order, many in one round trip."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeAlias

Word: TypeAlias = bytes | str | int | float

_FOLDER = Path(__file__).parent / "redis_lua"
_AT_ONCE = 500  # scripts in one round trip


class ServerLost(Exception):
    """The server gave no answer, or not in time, or one that is of no use; nobody knows what it has done."""


class Link(Protocol):
    """A way to the server that gives up soon (`gateway.store.by_url.link`)."""

    async def say(self, *commands: Sequence[Word]) -> list[object]:
        """Say one thing after the other, in one round trip; refusals, which are exceptions, are among the replies.

        Raises an exception where there is no answer.
        """

    async def close(self) -> None:
        """Close every connection."""


@dataclass(frozen=True, slots=True)
class Script:
    """Lua, and the SHA-1 under which a server knows it."""

    text: str
    sha: str

    @classmethod
    def read(cls, name: str) -> Script:
        """Find it by its name."""
        text = (_FOLDER / "prelude.lua").read_text() + (_FOLDER / f"{name}.lua").read_text()
        return cls(text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())


@dataclass(slots=True)
class _Said:
    script: Script
    rest: tuple[Word, ...]
    reply: asyncio.Future[object]


class Speaker:
    """Says scripts to the server in the order in which they were handed in: what leaves has left before the next comes.

    While one round trip is on its way, what is handed in gathers for the next one.
    """

    def __init__(self, link: Link) -> None:
        self._link = link
        self._gathered: list[_Said] = []
        self._speaking: asyncio.Task[None] | None = None

    def run(self, script: Script, keys: Sequence[str], words: Sequence[Word]) -> asyncio.Future[object]:
        """Run a script; the future has its reply, or ServerLost, even if nobody awaits it any more."""
        loop = asyncio.get_running_loop()
        said = _Said(script, (len(keys), *keys, *words), loop.create_future())
        said.reply.add_done_callback(_seen)
        self._gathered.append(said)
        if self._speaking is None:
            self._speaking = loop.create_task(self._speak())
        return said.reply

    async def close(self) -> None:
        """Say what is left to say, and close the connections."""
        if self._speaking is not None:
            await asyncio.wait([self._speaking])
        await self._link.close()

    async def _speak(self) -> None:
        try:
            while self._gathered:
                batch, self._gathered = self._gathered[:_AT_ONCE], self._gathered[_AT_ONCE:]
                await self._deliver(batch)
        finally:
            self._speaking = None

    async def _deliver(self, batch: list[_Said]) -> None:
        try:
            replies = await self._link.say(*(("EVALSHA", said.script.sha, *said.rest) for said in batch))
            unknown = [
                n for n, reply in enumerate(replies) if str(reply).startswith(("NOSCRIPT", "No matching script"))
            ]
            if unknown:
                texts = (("EVAL", batch[n].script.text, *batch[n].rest) for n in unknown)
                for n, reply in zip(unknown, await self._link.say(*texts), strict=True):
                    replies[n] = reply
        except Exception as error:  # noqa: BLE001 - the link's own, redis-py's, the network's: all mean the same
            batch, self._gathered = batch + self._gathered, []  # so that nobody waits twice
            replies = [error] * len(batch)
        for said, reply in zip(batch, replies, strict=True):
            if said.reply.done():
                continue
            if isinstance(reply, Exception):
                said.reply.set_exception(ServerLost(type(reply).__name__))
            else:
                said.reply.set_result(reply)


def _seen(reply: asyncio.Future[object]) -> None:
    if not reply.cancelled():
        reply.exception()
