"""Accepts from a listening socket that other workers accept from too, in turn with them."""

from __future__ import annotations

import asyncio
import select
import socket
import ssl
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import cast

from aiohttp import web
from typing_extensions import override

from gateway.app.listeners import LISTEN_BACKLOG, TLS_HANDSHAKE_TIMEOUT
from gateway.supervisor.accepting.turns import AcceptTurns

_RECHECK_INTERVAL = 0.001  # seconds until a worker that is ahead looks again
_PATIENCE = 0.1  # seconds in which the others must accept something; then they are not waited for
_MAX_ACCEPTS = 64  # in one step of the event loop
_RETRY_DELAY = 1.0  # seconds after a failed accept: descriptors or memory are lacking


class TurnTakingServer:
    """Accepts from `sock` when it is this worker's turn. A connection that it leaves stays in the socket's backlog.

    A worker that is ahead stops watching the socket and looks again after a millisecond, until no connection waits, or
    it may accept, or `_PATIENCE` has passed without an accept of those that it waits for.
    """

    def __init__(
        self,
        sock: socket.socket,
        turns: AcceptTurns,
        protocol_factory: Callable[[], asyncio.BaseProtocol],
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._sock = sock
        self._turns = turns
        self._protocol_factory = protocol_factory
        self._tls = tls
        self._readable = select.poll()
        self._timer: asyncio.TimerHandle | None = None
        self._waiting_for: Mapping[int, int] = {}
        self._waiting_since = 0.0
        self._connecting: set[asyncio.Task[None]] = set()
        sock.settimeout(0)
        self._readable.register(sock, select.POLLIN)
        turns.join()
        self._watch()

    @property
    def sockets(self) -> Sequence[socket.socket]:
        """The listening socket; none after `close`."""
        return () if self._sock.fileno() < 0 else (self._sock,)

    def close(self) -> None:
        """Stop accepting; accepted connections stay."""
        if self.sockets:
            self._turns.leave()
            if self._timer is not None:
                self._timer.cancel()
            self._loop.remove_reader(self._sock)
            self._sock.close()

    def _watch(self) -> None:
        self._loop.add_reader(self._sock, self._accept_in_turn)

    def _accept_in_turn(self) -> None:
        for _ in range(_MAX_ACCEPTS):
            slower = self._turns.slower_workers()
            if slower and not self._has_lost_patience(slower):
                self._look_again_in(_RECHECK_INTERVAL)
                return
            try:
                connection, _ = self._sock.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                self._report(error)
                return
            self._turns.count_accepted()
            task = self._loop.create_task(self._connect(connection))
            self._connecting.add(task)
            task.add_done_callback(self._connecting.discard)

    def _has_lost_patience(self, slower: Mapping[int, int]) -> bool:
        now = self._loop.time()
        if slower != self._waiting_for:
            self._waiting_for, self._waiting_since = slower, now
        elif now - self._waiting_since >= _PATIENCE:
            self._turns.ignore(slower)
            return True
        return False

    def _look_again_in(self, seconds: float) -> None:
        self._loop.remove_reader(self._sock)
        self._timer = self._loop.call_later(seconds, self._look_again)

    def _look_again(self) -> None:
        self._timer = None
        if self._readable.poll(0):
            self._accept_in_turn()
        else:
            self._waiting_for = {}
        if self._timer is None:
            self._watch()

    def _report(self, error: OSError) -> None:
        self._loop.call_exception_handler({"message": "cannot accept", "exception": error})
        self._look_again_in(_RETRY_DELAY)

    async def _connect(self, connection: socket.socket) -> None:
        timeout = None if self._tls is None else TLS_HANDSHAKE_TIMEOUT
        with suppress(OSError):  # the client has left, or its TLS handshake failed
            await self._loop.connect_accepted_socket(
                self._protocol_factory, connection, ssl=self._tls, ssl_handshake_timeout=timeout
            )


class TurnTakingSite(web.BaseSite):
    """Site of an inherited socket for `Listener`."""

    def __init__(
        self, runner: web.ServerRunner, sock: socket.socket, turns: AcceptTurns, tls: ssl.SSLContext | None
    ) -> None:
        super().__init__(runner, ssl_context=tls, backlog=LISTEN_BACKLOG)
        self._sock = sock
        self._turns = turns

    @property
    @override
    def name(self) -> str:
        return f"shared:{self._sock.getsockname()}"

    @override
    async def start(self) -> None:
        await super().start()
        factory = self._runner.server
        if factory is None:
            raise RuntimeError("the runner is not set up")
        server = TurnTakingServer(self._sock, self._turns, factory, self._ssl_context)
        self._server = cast("asyncio.AbstractServer", server)  # aiohttp uses `sockets` and `close`
