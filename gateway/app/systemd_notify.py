"""The service manager's notification protocol (sd_notify(3)): datagrams of NAME=value lines on a Unix socket.

Without NOTIFY_SOCKET, which systemd sets for units of Type=notify, nothing is sent. A manager that does not listen is
no reason to fail: messages that cannot be sent are dropped.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

from gateway.clock import Clock

_MICROSECONDS = 1_000_000
_LONGEST_STATUS = 200  # characters
_SEND_TIMEOUT = 1.0  # seconds that a full queue may block the event loop: a lost state is not sent again


@dataclass(frozen=True, slots=True)
class Notifier:
    """`address` is a socket's path or, with a first character NUL, an abstract name; None without a service manager.

    `watchdog`: seconds within which the manager expects a message of the service, None without a watchdog.
    """

    address: str | None = None
    watchdog: float | None = None

    @classmethod
    def from_environment(cls, environ: Mapping[str, str], pid: int) -> Notifier:
        """Read NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID for process `pid`; invalid values are ignored.

        Sockets of other kinds than AF_UNIX (vsock:) are not supported.
        """
        name = environ.get("NOTIFY_SOCKET", "")
        if name[:1] not in {"/", "@"} or len(name) < 2:
            return cls()
        address = "\0" + name[1:] if name.startswith("@") else name
        wanted = environ.get("WATCHDOG_USEC", "")
        addressee = environ.get("WATCHDOG_PID", str(pid))
        usable = wanted.isascii() and wanted.isdecimal() and int(wanted) > 0 and addressee == str(pid)
        return cls(address, int(wanted) / _MICROSECONDS if usable else None)

    def ready(self, status: str = "") -> None:
        """Report that the service is ready, after a start or a reload."""
        self._send("READY=1", *_status(status))

    def stopping(self, status: str = "") -> None:
        """Report that the service drains."""
        self._send("STOPPING=1", *_status(status))

    def reloading(self) -> None:
        """Report that the configuration is being reloaded; `ready` has to follow."""
        self._send("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def alive(self) -> None:
        """Send the heartbeat of the watchdog."""
        self._send("WATCHDOG=1", timeout=0)

    async def keep_alive(self, clock: Clock) -> None:
        """Send `alive` twice in each watchdog period until cancelled; return at once without a watchdog.

        It runs in the event loop: a loop that is stuck sends nothing, and the manager restarts the service.
        """
        while self.address is not None and self.watchdog is not None:
            self.alive()
            await clock.sleep(self.watchdog / 2)

    def _send(self, *lines: str, timeout: float = _SEND_TIMEOUT) -> None:
        if self.address is None:
            return
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
            sender.settimeout(timeout)
            sender.connect(self.address)
            sender.send("\n".join(lines).encode())


NO_SERVICE_MANAGER = Notifier()
"""Sends nothing."""


def service_notifier() -> Notifier:
    """Return the notifier of this process, from its environment."""
    return Notifier.from_environment(os.environ, os.getpid())


def _status(text: str) -> tuple[str, ...]:
    """The line for `systemctl status`: one line, bounded."""
    return (f"STATUS={' '.join(text.split())[:_LONGEST_STATUS]}",) if text else ()
