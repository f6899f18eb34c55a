"""Write batch: what many connections have to send is written in a row, once in an iteration of the event loop.

On one machine a write wakes the process that it is for, if that sleeps: about 10 us of processor time. Of writes in a
row, most find it running.
"""

from __future__ import annotations

import asyncio
from typing import Protocol


class PendingWrite(Protocol):
    """A connection with something to send."""

    def write_pending(self) -> None:
        """Write it to the transport, if that is still open. Called at most once for each `WriteBatch.add`."""


class WriteBatch:
    """The pending writes of connections of one event loop, in the order of `add`."""

    __slots__ = ("_pending",)

    def __init__(self) -> None:
        self._pending: list[PendingWrite] = []

    def add(self, connection: PendingWrite) -> None:
        """Let a connection write in the next iteration of the event loop."""
        if not self._pending:
            asyncio.get_running_loop().call_soon(self._write_all)
        self._pending.append(connection)

    def _write_all(self) -> None:
        pending, self._pending = self._pending, []
        for connection in pending:
            try:
                connection.write_pending()
            except Exception as error:  # noqa: BLE001 - the others are written nevertheless
                context = {"message": "a write failed", "exception": error}
                asyncio.get_running_loop().call_exception_handler(context)
