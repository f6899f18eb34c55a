"""WebSocket connection of one client: authentication, subscription, heartbeat, limits."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Coroutine
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

from aiohttp import WSMsgType, web

from gateway.api.promptlayer.realtime import centrifugo
from gateway.api.promptlayer.realtime.centrifugo import Command, Connect, Pong, Subscribe, Unsubscribe
from gateway.api.promptlayer.realtime.tokens import ChannelToken
from gateway.clock import Clock
from gateway.observability import json_logging
from gateway.observability.logger_protocol import Logger

PING_INTERVAL = 25
"""Seconds between two pings."""
_CONNECT_TIMEOUT = 10.0  # seconds for a client to authenticate
_PONG_TIMEOUT = 10.0  # seconds for the pong after a ping
_MAX_FRAMES_PER_PING = 64  # frames of a client between two pings
_MAX_SUBSCRIPTIONS_PER_PING = 4  # subscriptions between two pings: each may get a large result at once

CloseReason: TypeAlias = tuple[int, str]
"""Close code and reason of a WebSocket connection."""

# Centrifugo's codes: clients do not reconnect after 3500 to 3999 and from 4500 on.
SHUTDOWN = (3001, "shutdown")
_INTERNAL_ERROR = (3004, "internal server error")
_NO_PONG = (3012, "no pong")
_INVALID_TOKEN = (3500, "invalid token")
_BAD_REQUEST = (3501, "bad request")
_STALE = (3502, "stale")
_FORCE_DISCONNECT = (3503, "force disconnect")
_TOO_MANY = (4008, "too many connections")


class ConnectionHub(Protocol):
    """The hub as a connection uses it."""

    log: Logger

    def authenticate(self, encoded: str) -> ChannelToken | None:
        """Verify a token. None if it is not valid."""

    def is_valid(self, token: ChannelToken) -> bool:
        """True while the token is valid."""

    def register(self, token: ChannelToken) -> bool:
        """Count a connection. Returns False if the client has too many."""

    def wait_for_message(self, token: ChannelToken) -> Awaitable[str]:
        """Wait for the message of the token's channel; returns a frame."""


@dataclass(slots=True, eq=False)
class RealtimeConnection:
    """One connection. `token` is set once the client has authenticated, `closed` at the end."""

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
        """Serve the connection until either side closes it."""
        reader = self._spawn(self._read_loop())
        self._spawn(self._ping_loop())
        try:
            await asyncio.wait((reader, self._close_reason), return_when=asyncio.FIRST_COMPLETED)
            reader.cancel()  # only one task may read, and the closing handshake reads too
            await asyncio.gather(reader, return_exceptions=True)
            if self._close_reason.done():
                code, reason = self._close_reason.result()
                await self.socket.close(code=code, message=reason.encode())
        finally:
            for task in self._tasks:
                task.cancel()
            self.closed.set()

    def close(self, reason: CloseReason) -> None:
        """Close the connection with a code and a reason. Idempotent: the first reason counts."""
        if not self._close_reason.done():
            self._close_reason.set_result(reason)

    async def _read_loop(self) -> None:
        """Handle frames in order."""
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
        """Heartbeat. Closes the connection if it does not authenticate, misses a pong, or outlives its token."""
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
            pass  # disconnected; `serve` notices
        except Exception as error:  # noqa: BLE001 - a defect; without a close, the client would wait for an hour
            self.hub.log.error("internal_error", **json_logging.describe_exception(error))
            self.close(_INTERNAL_ERROR)
