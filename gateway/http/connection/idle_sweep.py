"""Idle timeout of the connections of a server, with one timer for all: a timer for each takes 0.7 kB of memory."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Generic, Protocol, TypeVar

_MAX_INTERVAL = 1.0  # seconds
_SWEEPS_PER_TIMEOUT = 10


class IdleConnection(Protocol):
    """A connection that may be idle. `closes_at`: the time of the event loop, in seconds, until which it may be."""

    closes_at: float

    def close_if_idle(self) -> None:
        """Close the connection if no request is in progress."""


ConnectionT = TypeVar("ConnectionT", bound=IdleConnection)


class IdleSweep(Generic[ConnectionT]):
    """The open connections of a server; those that are idle for too long are closed.

    They are closed at most a second after their time, or a tenth of `shortest_timeout` (seconds) if that is less.
    """

    def __init__(self, shortest_timeout: float) -> None:
        self._interval = min(_MAX_INTERVAL, shortest_timeout / _SWEEPS_PER_TIMEOUT)
        self._connections: set[ConnectionT] = set()
        self._timer: asyncio.TimerHandle | None = None

    def __iter__(self) -> Iterator[ConnectionT]:
        """Iterate over a copy: a connection that is closed is removed."""
        return iter(list(self._connections))

    def __len__(self) -> int:
        return len(self._connections)

    def add(self, connection: ConnectionT) -> None:
        """Add an open connection."""
        self._connections.add(connection)
        if self._timer is None:
            self._start_timer()

    def discard(self, connection: ConnectionT) -> None:
        """Remove a connection, if it is there."""
        self._connections.discard(connection)

    def _start_timer(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self._interval, self._sweep)

    def _sweep(self) -> None:
        self._timer = None
        loop = asyncio.get_running_loop()
        now = loop.time()
        for connection in self:
            if connection.closes_at <= now:
                loop.call_soon(connection.close_if_idle)  # an error of one does not keep the others open
        if self._connections:
            self._start_timer()
