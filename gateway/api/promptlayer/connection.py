"""One connection of an SDK's WebSocket: who is there, what it waits for, and when it has to go."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Coroutine
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

from aiohttp import WSMsgType, web
from structlog.typing import FilteringBoundLogger

from gateway.api.promptlayer import centrifugo
from gateway.api.promptlayer.centrifugo import Command, Connect, Pong, Subscribe, Unsubscribe
from gateway.api.promptlayer.tokens import ChannelToken
from gateway.clock import Clock
from gateway.observability import logs

PING_INTERVAL = 25
"""Seconds between two pings."""
_CONNECT_TIMEOUT = 10.0  # seconds for a client to say who it is
_PONG_TIMEOUT = 10.0  # seconds for the answer to a ping
_MAX_FRAMES_PER_PING = 64  # frames between two pings
_MAX_SUBSCRIPTIONS_PER_PING = 4  # subscriptions between two pings: each may be told a large result at once

CloseReason: TypeAlias = tuple[int, str]
"""Why a connection ends: a code of WebSocket's, and words."""

# Centrifugo's codes: from 3500 and from 4500 on, the client does not come back.
SHUTDOWN = (3001, "shutdown")
_INTERNAL_ERROR = (3004, "internal server error")
_NO_PONG = (3012, "no pong")
_INVALID_TOKEN = (3500, "invalid token")
_BAD_REQUEST = (3501, "bad request")
_STALE = (3502, "stale")
_FORCE_DISCONNECT = (3503, "force disconnect")
_TOO_MANY = (4008, "too many connections")


class ConnectionHub(Protocol):
    """What a line asks."""

    log: FilteringBoundLogger

    def authenticate(self, encoded: str) -> ChannelToken | None:
        """Read who is there; None where the ticket is not good."""

    def is_valid(self, token: ChannelToken) -> bool:
        """Whether the ticket is good still."""

    def register(self, token: ChannelToken) -> bool:
        """Count a connection in; False where the client has too many."""

    def wait_for_message(self, token: ChannelToken) -> Awaitable[str]:
        """Wait for what the ticket's channel has to tell: a frame."""


@dataclass(slots=True, eq=False)
class RealtimeConnection:
    """A connection. `ticket` is there once the client has said who it is and has a seat, `gone` is set at the end."""

    socket: web.WebSocketResponse
    hub: ConnectionHub
    clock: Clock
    token: ChannelToken | None = None
    closed: asyncio.Event = field(default_factory=asyncio.Event)
    _delivery: asyncio.Task[None] | None = None
    _frame_count: int = 0
    _subscription_count: int = 0
    _pong_received: bool = True
    _close_reason: asyncio.Future[CloseReason] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def serve(self) -> None:
        """Answer what comes until either side ends it."""
        reader = self._spawn(self._read_loop())
        self._spawn(self._ping_loop())
        try:
            await asyncio.wait((reader, self._close_reason), return_when=asyncio.FIRST_COMPLETED)
            reader.cancel()  # two can not read at once, and the end is answered, too
            await asyncio.gather(reader, return_exceptions=True)
            if self._close_reason.done():
                code, reason = self._close_reason.result()
                await self.socket.close(code=code, message=reason.encode())
        finally:
            for task in self._tasks:
                task.cancel()
            self.closed.set()

    def close(self, reason: CloseReason) -> None:
        """End it, and tell the client why."""
        if not self._close_reason.done():
            self._close_reason.set_result(reason)

    async def _read_loop(self) -> None:
        """Take one frame after another."""
        while not self._close_reason.done():
            message = await self.socket.receive()
            self._frame_count += 1
            if self._frame_count > _MAX_FRAMES_PER_PING or message.type is WSMsgType.BINARY:
                self.close(_BAD_REQUEST)
            elif message.type is WSMsgType.PING:
                await self.socket.pong(message.data)
            elif message.type is WSMsgType.TEXT:
                await self._handle_frame(message.data)
            elif message.type is not WSMsgType.PONG:
                return

    async def _handle_frame(self, frame: str) -> None:
        try:
            commands = centrifugo.parse_frame(frame)
        except centrifugo.InvalidFrame:
            self.close(_BAD_REQUEST)
            return
        for command in commands:
            if not self._close_reason.done():
                await self._handle_command(command)

    async def _handle_command(self, command: Command) -> None:
        if isinstance(command, Pong):
            self._pong_received = True
        elif isinstance(command, Connect) and self.token is None:
            await self._connect(command)
        elif isinstance(command, Connect) or self.token is None:
            self.close(_BAD_REQUEST)
        elif isinstance(command, Subscribe):
            await self._subscribe(command, self.token)
        elif isinstance(command, Unsubscribe):
            await self._unsubscribe(command, self.token)
        else:
            await self.socket.send_str(centrifugo.error_reply(command.id, centrifugo.NOT_AVAILABLE))

    async def _connect(self, command: Connect) -> None:
        token = self.hub.authenticate(command.token)
        if token is None:
            self.close(_INVALID_TOKEN)
        elif not self.hub.register(token):
            self.close(_TOO_MANY)
        else:
            self.token = token
            await self.socket.send_str(
                centrifugo.connect_reply(command.id, self.clock.token(8).hex(), ping_interval=PING_INTERVAL)
            )

    async def _subscribe(self, command: Subscribe, token: ChannelToken) -> None:
        if command.channel != token.channel:
            await self.socket.send_str(centrifugo.error_reply(command.id, centrifugo.PERMISSION_DENIED))
        elif self._delivery is not None:
            await self.socket.send_str(centrifugo.error_reply(command.id, centrifugo.ALREADY_SUBSCRIBED))
        elif self._subscription_count >= _MAX_SUBSCRIPTIONS_PER_PING:
            self.close(_BAD_REQUEST)
        else:
            self._subscription_count += 1
            await self.socket.send_str(centrifugo.subscribe_reply(command.id))
            self._delivery = self._spawn(self._deliver_result(token))

    async def _unsubscribe(self, command: Unsubscribe, token: ChannelToken) -> None:
        if command.channel == token.channel and self._delivery is not None:
            self._delivery.cancel()
            self._delivery = None
        await self.socket.send_str(centrifugo.unsubscribe_reply(command.id))

    async def _deliver_result(self, token: ChannelToken) -> None:
        message = await self.hub.wait_for_message(token)
        if self.hub.is_valid(token):
            await self.socket.send_str(message)
        else:
            self.close(_FORCE_DISCONNECT)

    async def _ping_loop(self) -> None:
        """Let nobody stay who does not say who it is, does not answer, or says too much; nor longer than its ticket."""
        await self.clock.sleep(_CONNECT_TIMEOUT)
        while self.token is not None and self.hub.is_valid(self.token):
            self._frame_count, self._subscription_count, self._pong_received = 0, 0, False
            await self.socket.send_str(centrifugo.PING)
            await self.clock.sleep(_PONG_TIMEOUT)
            if not self._pong_received:
                self.close(_NO_PONG)
                return
            await self.clock.sleep(PING_INTERVAL - _PONG_TIMEOUT)
        self.close(_FORCE_DISCONNECT if self.token else _STALE)

    def _spawn(self, work: Coroutine[object, object, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(self._run_guarded(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _run_guarded(self, work: Coroutine[object, object, None]) -> None:
        try:
            await work
        except ConnectionError:
            pass  # it has gone; `talk` notices
        except Exception as error:  # noqa: BLE001 - ours; a client that is told nothing would wait for an hour
            self.hub.log.error("internal_error", **logs.describe_exception(error))
            self.close(_INTERNAL_ERROR)
