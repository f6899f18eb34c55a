"""Timeout of a response that its client does not read."""

from __future__ import annotations

import asyncio
import fcntl
import sys
import termios

_CHECKS = 4  # checks of the progress within the timeout


class WriteTimeout:
    """Closes a connection whose client has read nothing of a response for `seconds`; started when writing pauses."""

    __slots__ = ("_interval", "_loop", "_stalled_checks", "_timer", "_transport", "_unread_bytes")

    def __init__(self, transport: asyncio.Transport, seconds: float) -> None:
        self._transport = transport
        self._interval = seconds / _CHECKS
        self._stalled_checks = 0
        self._loop = asyncio.get_running_loop()
        self._restart()

    def cancel(self) -> None:
        """Stop."""
        self._timer.cancel()

    def _restart(self) -> None:
        self._unread_bytes = self._count_unread_bytes()
        self._timer = self._loop.call_later(self._interval, self._check)

    def _check(self) -> None:
        progress = self._count_unread_bytes() < self._unread_bytes
        self._stalled_checks = 0 if progress else self._stalled_checks + 1
        if self._stalled_checks < _CHECKS:
            self._restart()
        else:
            self._transport.abort()

    def _count_unread_bytes(self) -> int:
        """Bytes of the response that the client has not acknowledged, in the process and (on Linux) in the kernel."""
        sock = self._transport.get_extra_info("socket")
        return self._transport.get_write_buffer_size() + (0 if sock is None else _unacknowledged_bytes(sock.fileno()))


def _unacknowledged_bytes(descriptor: int) -> int:
    """Bytes in the send queue of a TCP socket: tcp(7), SIOCOUTQ; 0 where it is not supported."""
    try:
        return int.from_bytes(fcntl.ioctl(descriptor, termios.TIOCOUTQ, bytes(4)), sys.byteorder)
    except (OSError, ValueError):  # not supported, or closed
        return 0
