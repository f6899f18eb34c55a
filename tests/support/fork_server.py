"""Client of the fork server: starts a gateway in some 0.1 s of CPU, where a new interpreter takes more than a second.

What differs from `subprocess.Popen([sys.executable, "-m", MODULE, ...])`: the command line in /proc, the seed of hashes
(one for all), and what modules read when they are imported.
"""

from __future__ import annotations

import atexit
import json
import os
import select
import signal
import socket
import subprocess
import sys
from functools import cache
from importlib.util import find_spec
from typing import TYPE_CHECKING

from tests.support.fork_server_main import MESSAGE_BYTES, StartRequest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

_MODULES = (
    "gateway.cli.serve",
    "gateway.limits.redis.counters",
    "gateway.store.redis.store",
    "providers.prompt_studio",
    "providers.promptlayer",
    *(["uvloop"] if find_spec("uvloop") else []),
)
_READ_AT_START = ("PYTHON", "COVERAGE_", "LANG", "LC_", "TZ", "SSL_")
"""Prefixes of variables that the interpreter or its modules read once: these need a new interpreter."""


def can_fork(environment: Mapping[str, str]) -> bool:
    """Return True if this system has what the fork server needs, and the environment nothing that it cannot change."""
    return sys.platform == "linux" and not any(name.startswith(_READ_AT_START) for name in environment)


class ForkedProcess:
    """Process of the fork server; has the methods of `subprocess.Popen` that tests use."""

    def __init__(self, status: socket.socket) -> None:
        message, fds, _, _ = socket.recv_fds(status, 32, 1)
        self._exit_code: int | None = None if message else 0
        if not message:
            raise RuntimeError("the fork server has ended; its standard error says why")
        self.pid = int(message)
        [self._pidfd] = fds
        self._status = status

    def __del__(self) -> None:
        """Close the descriptors of a process whose end was not asked for."""
        if self._exit_code is None:
            self._status.close()
            os.close(self._pidfd)

    def poll(self) -> int | None:
        """Return the exit code, negative for a signal; None while the process runs."""
        if self._exit_code is None and self._is_readable(0):
            with self._status:
                message = self._status.recv(32)
            os.close(self._pidfd)
            self._exit_code = int(message or -signal.SIGKILL)  # the end of the fork server is that of its processes
        return self._exit_code

    def wait(self, timeout: float) -> int:
        """Return the exit code, within `timeout` seconds. Raises subprocess.TimeoutExpired."""
        if self._exit_code is None:
            self._is_readable(timeout)
        code = self.poll()
        if code is None:
            raise subprocess.TimeoutExpired(str(self.pid), timeout)
        return code

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal, unless the process has ended."""
        if self.poll() is None:
            signal.pidfd_send_signal(self._pidfd, number)

    def kill(self) -> None:
        """Send SIGKILL."""
        self.send_signal(signal.SIGKILL)

    def _is_readable(self, seconds: float) -> bool:
        poll = select.poll()
        poll.register(self._status, select.POLLIN)
        return bool(poll.poll(seconds * 1000))


class ForkServer:
    """Running fork server; processes start in `cwd` with its environment replaced."""

    def __init__(self, cwd: Path, environment: Mapping[str, str], modules: Sequence[str]) -> None:
        self._control, far_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        command = [sys.executable, "-m", "tests.support.fork_server_main", str(far_end.fileno()), *modules]
        with far_end:
            self._process = subprocess.Popen(
                command, cwd=cwd, env=environment, pass_fds=[far_end.fileno()],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            )  # fmt: skip

    def start(self, request: StartRequest, stdout: int, stderr: int) -> ForkedProcess:
        """Start a process with these descriptors and an empty standard input."""
        status, far_end = socket.socketpair()
        message = json.dumps(request).encode()
        assert len(message) < MESSAGE_BYTES
        with far_end, open(os.devnull, "rb") as stdin:  # noqa: PTH123 - not a path of the tests
            socket.send_fds(self._control, [message], [stdin.fileno(), stdout, stderr, far_end.fileno()])
        return ForkedProcess(status)

    def close(self) -> None:
        """End the fork server, and the processes that still run."""
        self._control.close()
        self._process.wait()


@cache
def fork_server(cwd: Path, search_path: str) -> ForkServer:
    """Return the fork server of this test process, which has imported the gateway."""
    server = ForkServer(cwd, {"PATH": search_path}, _MODULES)
    atexit.register(server.close)
    return server
