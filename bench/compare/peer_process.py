"""The processes of one gateway under test: started on one core, watched from outside, ended by id."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from contextlib import AbstractContextManager, suppress
from pathlib import Path

from bench.compare.peer import Launch, NotAvailable, Place
from bench.processes import cpu_seconds_of, pinned, resident_of

_CORE = 0
_GRACE = 5.0  # seconds from SIGTERM to SIGKILL


class PeerProcess(AbstractContextManager["PeerProcess"]):
    """A gateway with its children. Its output goes through a pipe and is discarded: writing it has its usual cost."""

    def __init__(self, launch: Launch, place: Place) -> None:
        self.port = place.port
        self._port_file = launch.port_file
        self._errors = place.files / "stderr"
        self._began = time.monotonic()
        with self._errors.open("wb") as errors, pinned(_CORE):
            self._process = subprocess.Popen(
                launch.command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                cwd=Path(__file__).parents[2],
                env=_environment(launch),
                start_new_session=True,
            )
        with pinned(1):
            self._drain = subprocess.Popen(["cat"], stdin=self._process.stdout, stdout=subprocess.DEVNULL)
        if self._process.stdout is not None:
            self._process.stdout.close()

    def wait_until_ready(self, request: bytes, timeout: float = 90.0) -> float:
        """Send the request until it is answered with 200; returns the seconds since the start. Raises NotAvailable."""
        answer = b""
        while (taken := time.monotonic() - self._began) < timeout:
            if self._process.poll() is not None:
                raise NotAvailable(f"it ended with {self._process.returncode}: {self._last_error()}")
            answer = self._ask(request) or answer
            if answer.startswith(b"HTTP/1.1 200"):
                return taken
            time.sleep(0.005)
        status = answer.partition(b"\r\n")[0].decode("ascii", "replace")
        raise NotAvailable(f"it was not ready within {timeout:.0f} s: {status or self._last_error()}")

    def _ask(self, request: bytes) -> bytes:
        if self._port_file is not None:
            if not self._port_file.exists():
                return b""
            self.port = int(self._port_file.read_text())
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=30) as connection:
            connection.sendall(request)
            return connection.recv(65536)
        return b""

    def _last_error(self) -> str:
        lines = [line for line in self._errors.read_text(errors="replace").splitlines() if line.strip()]
        return lines[-1].strip()[:200] if lines else "no message"

    def _pids(self) -> list[int]:
        """Return the process and all its descendants."""
        found = [self._process.pid]
        for pid in found:  # grows meanwhile
            with suppress(OSError):
                for thread in Path(f"/proc/{pid}/task").iterdir():
                    found += [int(child) for child in (thread / "children").read_text().split()]
        return found

    def cpu_seconds(self) -> float:
        """User and system time so far, children included."""
        return sum(cpu_seconds_of(pid) for pid in self._pids())

    def resident(self) -> int:
        """Resident memory in bytes, children included; what they share is counted for each."""
        return sum(resident_of(pid) for pid in self._pids())

    def __exit__(self, *_: object) -> None:
        pids = self._pids()
        _send(pids[:1], signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_GRACE)
        if self._process.returncode is None:
            self._process.kill()
            self._process.wait()
        _send(pids[1:], signal.SIGKILL)  # those that outlived their parent
        self._drain.wait()


def _environment(launch: Launch) -> dict[str, str]:
    """Return the variables for the process. Python may keep bytecode, as it does for installed packages."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**kept, **launch.env}


def _send(pids: list[int], number: signal.Signals) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)
