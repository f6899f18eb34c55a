"""One connection of an SDK's WebSocket: who is there, what it waits for, and when it has to go."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Coroutine
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

from aiohttp import WSMsgType, web
from structlog.typing import FilteringBoundLogger

from gateway import logs
from gateway.api.promptlayer import frames
from gateway.api.promptlayer.frames import Command, Connect, Pong, Subscribe, Unsubscribe
from gateway.api.promptlayer.tickets import Ticket
from gateway.clock import Clock

PING = 25
"""Seconds between two pings."""
_FIRST = 10.0  # seconds for a client to say who it is
_PONG = 10.0  # seconds for the answer to a ping
_MOST_WORDS = 64  # frames between two pings
_MOST_TURNS = 4  # subscriptions between two pings: each may be told a large result at once

End: TypeAlias = tuple[int, str]
"""Why a connection ends: a code of WebSocket's, and words."""

# Centrifugo's codes: from 3500 and from 4500 on, the client does not come back.
LEAVING = (3001, "shutdown")
_MISTAKE = (3004, "internal server error")
_NO_PONG = (3012, "no pong")
_BAD_TICKET = (3500, "invalid token")
_BAD_REQUEST = (3501, "bad request")
_STALE = (3502, "stale")
_OVER = (3503, "force disconnect")
_TOO_MANY = (4008, "too many connections")


class Exchange(Protocol):
    """What a line asks."""

    log: FilteringBoundLogger

    def admit(self, token: str) -> Ticket | None:
        """Read who is there; None where the ticket is not good."""

    def allows(self, ticket: Ticket) -> bool:
        """Whether the ticket is good still."""

    def seat(self, ticket: Ticket) -> bool:
        """Count a connection in; False where the client has too many."""

    def message(self, ticket: Ticket) -> Awaitable[str]:
        """Wait for what the ticket's channel has to tell: a frame."""


@dataclass(slots=True, eq=False)
class Line:
    """A connection. `ticket` is there once the client has said who it is and has a seat, `gone` is set at the end."""

    socket: web.WebSocketResponse
    exchange: Exchange
    clock: Clock
    ticket: Ticket | None = None
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    _listening: asyncio.Task[None] | None = None
    _words: int = 0
    _turns: int = 0
    _answered: bool = True
    _end: asyncio.Future[End] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def talk(self) -> None:
        """Answer what comes until either side ends it."""
        hearing = self._spawn(self._hear())
        self._spawn(self._keep())
        try:
            await asyncio.wait((hearing, self._end), return_when=asyncio.FIRST_COMPLETED)
            hearing.cancel()  # two can not read at once, and the end is answered, too
            await asyncio.gather(hearing, return_exceptions=True)
            if self._end.done():
                code, words = self._end.result()
                await self.socket.close(code=code, message=words.encode())
        finally:
            for task in self._tasks:
                task.cancel()
            self.gone.set()

    def close(self, why: End) -> None:
        """End it, and tell the client why."""
        if not self._end.done():
            self._end.set_result(why)

    async def _hear(self) -> None:
        """Take one frame after another."""
        while not self._end.done():
            heard = await self.socket.receive()
            self._words += 1
            if self._words > _MOST_WORDS or heard.type is WSMsgType.BINARY:
                self.close(_BAD_REQUEST)
            elif heard.type is WSMsgType.PING:
                await self.socket.pong(heard.data)
            elif heard.type is WSMsgType.TEXT:
                await self._take(heard.data)
            elif heard.type is not WSMsgType.PONG:
                return

    async def _take(self, frame: str) -> None:
        try:
            commands = frames.parse(frame)
        except frames.BadFrame:
            self.close(_BAD_REQUEST)
            return
        for command in commands:
            if not self._end.done():
                await self._do(command)

    async def _do(self, command: Command) -> None:
        if isinstance(command, Pong):
            self._answered = True
        elif isinstance(command, Connect) and self.ticket is None:
            await self._connect(command)
        elif isinstance(command, Connect) or self.ticket is None:
            self.close(_BAD_REQUEST)
        elif isinstance(command, Subscribe):
            await self._subscribe(command, self.ticket)
        elif isinstance(command, Unsubscribe):
            await self._unsubscribe(command, self.ticket)
        else:
            await self.socket.send_str(frames.refused(command.id, frames.UNAVAILABLE))

    async def _connect(self, command: Connect) -> None:
        ticket = self.exchange.admit(command.token)
        if ticket is None:
            self.close(_BAD_TICKET)
        elif not self.exchange.seat(ticket):
            self.close(_TOO_MANY)
        else:
            self.ticket = ticket
            await self.socket.send_str(frames.connected(command.id, self.clock.token(8).hex(), ping=PING))

    async def _subscribe(self, command: Subscribe, ticket: Ticket) -> None:
        if command.channel != ticket.channel:
            await self.socket.send_str(frames.refused(command.id, frames.DENIED))
        elif self._listening is not None:
            await self.socket.send_str(frames.refused(command.id, frames.TWICE))
        elif self._turns >= _MOST_TURNS:
            self.close(_BAD_REQUEST)
        else:
            self._turns += 1
            await self.socket.send_str(frames.subscribed(command.id))
            self._listening = self._spawn(self._listen(ticket))

    async def _unsubscribe(self, command: Unsubscribe, ticket: Ticket) -> None:
        if command.channel == ticket.channel and self._listening is not None:
            self._listening.cancel()
            self._listening = None
        await self.socket.send_str(frames.unsubscribed(command.id))

    async def _listen(self, ticket: Ticket) -> None:
        message = await self.exchange.message(ticket)
        if self.exchange.allows(ticket):
            await self.socket.send_str(message)
        else:
            self.close(_OVER)

    async def _keep(self) -> None:
        """Let nobody stay who does not say who it is, does not answer, or says too much; nor longer than its ticket."""
        await self.clock.sleep(_FIRST)
        while self.ticket is not None and self.exchange.allows(self.ticket):
            self._words, self._turns, self._answered = 0, 0, False
            await self.socket.send_str(frames.PING)
            await self.clock.sleep(_PONG)
            if not self._answered:
                self.close(_NO_PONG)
                return
            await self.clock.sleep(PING - _PONG)
        self.close(_OVER if self.ticket else _STALE)

    def _spawn(self, work: Coroutine[object, object, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(self._guard(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _guard(self, work: Coroutine[object, object, None]) -> None:
        try:
            await work
        except ConnectionError:
            pass  # it has gone; `talk` notices
        except Exception as mistake:  # noqa: BLE001 - ours; a client that is told nothing would wait for an hour
            self.exchange.log.error("mistake", **logs.describe(mistake))
            self.close(_MISTAKE)
