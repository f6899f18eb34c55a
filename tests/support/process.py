"""Gateway as a process, observed from outside."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp
import yaml
from prometheus_client.parser import text_string_to_metric_families

from tests.support.fork_server import ForkedProcess, can_fork, fork_server
from tests.support.fork_server_main import StartRequest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from prometheus_client.samples import Sample

    from providers.contract import JsonValue

ROOT = Path(__file__).resolve().parent.parent.parent
_LOG_WRITE_SECONDS = 0.02
_MAX_LOG_WAITS = 10
START_TIMEOUT = 60.0  # seconds; allows for a busy machine
STOP_TIMEOUT = 30.0  # seconds
_POLL_SECONDS = 0.01
_COUNTED = ("_total", "_count", "_sum", "_bucket")  # names of samples that only grow
_COVERAGE_VARIABLES = ("COVERAGE_PROCESS_START", "COVERAGE_PROCESS_CONFIG", "COVERAGE_FILE")

LogLine = dict[str, object]
SeriesKey = tuple[str, frozenset[tuple[str, str]]]


class GatewayExitedError(Exception):
    """The gateway ended before it listened; the text is its output."""


class GatewayProcess:
    """Running gateway. Its output goes to files in `directory`, so that it outlives the event loop of one test."""

    def __init__(self, command: Sequence[str], directory: Path, env: Mapping[str, str], *, fork: bool = False) -> None:
        """Start `command`; the process sees `env` and the search path, and nothing else of this environment.

        With `fork` a command `python -m MODULE ...` is a process of the fork server, where `can_fork`.
        """
        self._stdout_path, self._stderr_path = directory / "stdout.log", directory / "stderr.log"
        self._stdout_offset = self._stderr_offset = 0
        self._baseline: dict[SeriesKey, float] = {}
        self._children: set[int] = set()
        self.url = self.ops_url = ""
        self.config = Path()
        with self._stdout_path.open("wb") as stdout, self._stderr_path.open("wb") as stderr:
            environment = {**inherited_environment(), **env}
            self._process: subprocess.Popen[bytes] | ForkedProcess
            if fork and can_fork(environment):
                [_, _, module, *arguments] = command
                request = StartRequest(module=module, arguments=arguments, environment=environment)
                server = fork_server(ROOT, environment["PATH"])
                self._process = server.start(request, stdout.fileno(), stderr.fileno())
            else:
                self._process = subprocess.Popen(
                    command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr
                )

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """The exit code, None while the process runs; negative for a signal."""
        return self._process.poll()

    @property
    def stdout(self) -> str:
        """Standard output since the start, or since the last `start_observation`."""
        self._wait_for_log_writer()
        return _read_from(self._stdout_path, self._stdout_offset)

    @property
    def stderr(self) -> str:
        """Standard error since the start, or since the last `start_observation`."""
        return _read_from(self._stderr_path, self._stderr_offset)

    @property
    def stdout_size(self) -> int:
        """The bytes of standard output so far; a position for `stdout_since`."""
        self._wait_for_log_writer()
        return self._stdout_path.stat().st_size

    def stdout_since(self, position: int) -> str:
        """Standard output after that position."""
        self._wait_for_log_writer()
        return _read_from(self._stdout_path, position)

    def _wait_for_log_writer(self) -> None:
        """Wait until the process has written the lines that it has logged; it gathers those of 10 ms."""
        size = -1
        for _ in range(_MAX_LOG_WAITS):  # a load test does not stop logging
            if size == (size := self._stdout_path.stat().st_size):
                return
            time.sleep(_LOG_WRITE_SECONDS)

    async def start_observation(self) -> None:
        """Reset the observation: `stdout`, `stderr`, `logs` and the counters of `metrics` begin anew."""
        self._stdout_offset = self.stdout_size
        self._stderr_offset = self._stderr_path.stat().st_size
        self._baseline = {}
        self._baseline = {_series_key(s): s.value for s in await self.metrics() if s.name.endswith(_COUNTED)}

    def logs(self, event: str | None = None) -> list[LogLine]:
        """Log entries, one JSON object per line. Raises ValueError for an invalid line; a partial one is left out."""
        complete, _, _ = self.stdout.rpartition("\n")
        lines = [json.loads(line) for line in complete.splitlines()]
        return [line for line in lines if event in {None, line.get("event")}]

    async def metrics(self) -> list[Sample]:
        """Return the samples of a scrape, counters relative to `start_observation`; see `metric_sum`."""
        async with aiohttp.ClientSession() as session, session.get(self.ops_url + "/metrics") as answer:
            answer.raise_for_status()
            text = await answer.text()
        samples = parse_metrics(text)
        return [s._replace(value=s.value - self._baseline.get(_series_key(s), 0)) for s in samples]

    def rss_bytes(self) -> int:
        """Return the resident memory in bytes."""
        return self._memory("VmRSS")

    def peak_rss_bytes(self) -> int:
        """Return the peak resident memory in bytes."""
        return self._memory("VmHWM")

    def cpu_seconds(self) -> float:
        """Return the CPU time of the main thread, independent of other load (proc(5), schedstat)."""
        return int(Path(f"/proc/{self.pid}/schedstat").read_text().split()[0]) / 1e9

    def open_fds(self) -> int:
        """Return the number of open file descriptors."""
        return len(list(Path(f"/proc/{self.pid}/fd").iterdir()))

    async def wait_until_listening(self, seconds: float = START_TIMEOUT) -> None:
        """Wait for the log line with the addresses. Raises GatewayExitedError if the process ends before."""
        end = time.monotonic() + seconds
        while (line := self._listening_line()) is None:
            if (code := self.exit_code) is not None:
                raise GatewayExitedError(f"exit code {code}\n{self.stdout}\n{self.stderr[-2000:]}")
            if time.monotonic() > end:
                raise GatewayExitedError(f"not listening after {seconds} s\n{self.stdout}\n{self.stderr[-2000:]}")
            await asyncio.sleep(_POLL_SECONDS)
        self.url, self.ops_url = str(line["url"]), str(line["ops_url"])

    def send_sighup(self) -> None:
        """Request a reload (SIGHUP)."""
        self._signal(signal.SIGHUP)

    def terminate(self) -> None:
        """Request a shutdown (SIGTERM) without waiting for it."""
        self._signal(signal.SIGTERM)

    async def wait_until_exit(self, seconds: float = STOP_TIMEOUT) -> int:
        """Wait for the end of the process; returns the exit code. Raises TimeoutError."""
        async with asyncio.timeout(seconds):
            return await self._wait()

    async def stop(self, seconds: float = STOP_TIMEOUT) -> int:
        """Request a shutdown (SIGTERM), kill it after `seconds`; returns the exit code."""
        self._signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(seconds):
                return await self._wait()
        except TimeoutError:
            return await self.kill()

    async def kill(self) -> int:
        """Kill the process (SIGKILL); returns the exit code."""
        self._signal(signal.SIGKILL)
        return await self._wait()

    def _memory(self, line: str) -> int:
        status = Path(f"/proc/{self.pid}/status").read_text()
        return 1024 * int(status.partition(f"{line}:")[2].split()[0])

    def terminate_now(self) -> None:
        """Stop the process (SIGTERM, after `STOP_TIMEOUT` SIGKILL) and wait, outside of any event loop."""
        self._signal(signal.SIGTERM)
        try:
            self._process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(STOP_TIMEOUT)

    def _signal(self, number: signal.Signals) -> None:
        self._children |= _child_pids(self.pid)
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(number)

    async def _wait(self) -> int:
        """Return the exit code once the process and its children have ended."""
        while (code := self.exit_code) is None:
            self._children |= _child_pids(self.pid)
            await asyncio.sleep(_POLL_SECONDS)
        while any(_is_running(pid) for pid in self._children):
            await asyncio.sleep(_POLL_SECONDS)
        return code

    def _listening_line(self) -> LogLine | None:
        lines, _, _ = self.stdout.rpartition("\n")
        found = (line for line in lines.splitlines() if '"listening"' in line)
        return next((json.loads(line) for line in found), None)


async def start_gateway(
    directory: Path, config: Mapping[str, JsonValue] | str, env: Mapping[str, str], *, fork: bool = True
) -> GatewayProcess:
    """Write the configuration (a mapping, or YAML text) into `directory` and serve it; return once it listens."""
    path = directory / "gateway.yaml"
    path.write_text(config if isinstance(config, str) else yaml.safe_dump(dict(config)))
    command = [sys.executable, "-m", "gateway", "serve", "--config", str(path)]
    gateway = GatewayProcess(command, directory, env, fork=fork)
    gateway.config = path
    try:
        await gateway.wait_until_listening()
    except BaseException:
        await gateway.kill()
        raise
    return gateway


def inherited_environment() -> dict[str, str]:
    """Return the inherited environment variables: the search path, and those of coverage."""
    return {name: os.environ[name] for name in ("PATH", *_COVERAGE_VARIABLES) if name in os.environ}


def parse_metrics(text: str) -> list[Sample]:
    """Parse samples in Prometheus's text format."""
    return [sample for family in text_string_to_metric_families(text) for sample in family.samples]


def _series_key(sample: Sample) -> SeriesKey:
    return sample.name, frozenset(sample.labels.items())


def _read_from(path: Path, offset: int) -> str:
    with path.open("rb") as file:
        file.seek(offset)
        return file.read().decode("utf-8", "backslashreplace")


def _child_pids(pid: int) -> set[int]:
    try:
        return {int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}
    except OSError:
        return set()


def _is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def metric_sum(samples: Sequence[Sample], name: str, **labels: str) -> float:
    """Return the sum of the samples with this name and these labels; 0 if there are none."""
    required = labels.items()
    return sum(sample.value for sample in samples if sample.name == name and required <= sample.labels.items())
