"""Processes of a benchmark: pinned to cores, measured from outside, terminated by id."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import MappingProxyType

from gateway.auth.keys import hash_key, new_key
from gateway.clock import SystemClock

HERE = Path(__file__).parent
KEY = new_key(SystemClock())
_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


class ServerProcess(AbstractContextManager["ServerProcess"]):
    """A process that prints its port, or the gateway's "listening" line, when it is ready."""

    def __init__(self, command: list[str], *, core: int | None, env: Mapping[str, str] | None = None) -> None:
        environment = {**os.environ, **(env or {})}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)  # or each start would compile all modules
        self._process = subprocess.Popen([sys.executable, *command], stdout=subprocess.PIPE, env=environment, text=True)
        if core is not None:
            _pin(self._process.pid, core)
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        while line.startswith("{") and '"listening"' not in line:  # warnings before it
            line = self._process.stdout.readline()
        self.port = int(json.loads(line)["url"].rpartition(":")[2]) if line.startswith("{") else int(line)
        # Further output is discarded; writing it has its usual cost.
        subprocess_drain = subprocess.Popen(["cat"], stdin=self._process.stdout, stdout=subprocess.DEVNULL)
        _pin(subprocess_drain.pid, 1)
        self._drain = subprocess_drain

    def cpu_seconds(self) -> float:
        """User and system time so far, workers included."""
        return cpu_seconds_of(self._process.pid) + sum(self.cpu_of_workers())

    def cpu_of_workers(self) -> list[float]:
        """User and system time of each worker."""
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text()
        return [cpu_seconds_of(int(pid)) for pid in children.split()]

    def descriptors_of_workers(self) -> list[int]:
        """Number of open descriptors of each worker."""
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text()
        return [len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in children.split()]

    def descriptors(self) -> int:
        """Number of open descriptors."""
        return len(list(Path(f"/proc/{self._process.pid}/fd").iterdir()))

    def resident(self) -> int:
        """Resident memory in bytes."""
        return resident_of(self._process.pid)

    def __exit__(self, *_: object) -> None:
        self._process.kill()  # workers without a supervisor exit by themselves
        self._process.wait()
        self._drain.wait()


def start_provider(delay: float = 0.0, core: int | None = 1) -> ServerProcess:
    """Start the fake provider."""
    return ServerProcess([str(HERE / "fake_provider.py"), "0", str(delay)], core=core)


def start_relay(provider: ServerProcess) -> ServerProcess:
    """Start the bare relay."""
    return ServerProcess([str(HERE / "bare_relay.py"), f"http://127.0.0.1:{provider.port}"], core=0)


def gateway_config(provider_port: int, store: str = "memory://", *, port: int = 0) -> dict[str, object]:
    """Configuration with every feature in use: a key, limits of client and provider, a quota, metrics, JSON logs."""
    limits = {"rate": "1000000/s", "burst": 1000000, "concurrency": 20000}
    return {
        "server": {"port": port, "ops_port": 0, "max_in_flight": 20000, "max_queued": 100000},
        "logs": {"format": "json"},
        "store": {"url": store},
        "providers": {
            "prompt_studio": {
                "base_url": f"http://127.0.0.1:{provider_port}",
                "api_key": {"env": "BENCH_KEY"},
                "limits": limits,
            }
        },
        "workflows": {"studio": {"provider": "prompt_studio", "name": "dep", "timeout": "120s"}},
        "clients": {
            "bench": {
                "keys": [{"hash": hash_key(KEY)}],
                "workflows": ["*"],
                "limits": {**limits, "daily": 1000000000},
            }
        },
    }


def start_gateway(
    provider: ServerProcess,
    store: str = "memory://",
    *,
    workers: int = 1,
    core: int | None = 0,
    settings: Mapping[str, object] = MappingProxyType({}),
) -> ServerProcess:
    """Start a gateway with keys, limits, metrics and logs; without a `core` it may use all of them.

    `settings`: further sections of the configuration.
    """
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        json.dump({**gateway_config(provider.port, store), **settings}, file)  # JSON is YAML
        file.flush()
        command = ["-m", "gateway", "serve", "--workers", str(workers), "--config", file.name]
        return ServerProcess(command, core=core, env={"BENCH_KEY": "bench-key-0123"})


def run_load(
    server: ServerProcess, *, connections: int, requests: int, kind: str = "plain", core: int | None = 1
) -> dict[str, float]:
    """Run one round; adds `cpu_us`, the processor time of the server per request."""
    before = server.cpu_seconds()
    command = [
        sys.executable,
        str(HERE / "load_generator.py"),
        str(server.port),
        str(connections),
        str(requests),
        KEY,
        kind,
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    if core is not None:
        _pin(process.pid, core)
    out, _ = process.communicate(timeout=60)
    figures = json.loads(out)
    if figures.pop("statuses") != {"202" if kind == "async" else "200": requests}:
        raise SystemExit(f"not every request was accepted: {out}")
    figures["cpu_us"] = (server.cpu_seconds() - before) / requests * 1e6
    return dict(figures)


def cpu_seconds_of(pid: int) -> float:
    """User and system time of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def resident_of(pid: int) -> int:
    """Resident memory of a process in bytes."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE


def free_port() -> int:
    """Return a port of loopback that is free now."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


@contextmanager
def pinned(core: int) -> Iterator[None]:
    """Processes that are started meanwhile run on this core, with their threads and children, from the beginning."""
    cores = os.sched_getaffinity(0)
    _pin(0, core)
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)


def _pin(pid: int, core: int) -> None:
    """Separate the measured process from the load generator, if there are two cores."""
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(pid, {cores[core % len(cores)]})
