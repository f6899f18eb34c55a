"""The gateway as its users have it: a process of its own, seen from outside."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp
import yaml
from prometheus_client.parser import text_string_to_metric_families

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from prometheus_client.samples import Sample

    from providers.contract import JsonValue

ROOT = Path(__file__).resolve().parent.parent.parent
START_TIMEOUT = 20.0  # generous: a machine that is busy with other tests is no failure of ours
STOP_TIMEOUT = 15.0

LogLine = dict[str, object]


class GatewayExitedError(Exception):
    """The gateway ended before it listened; the text is what it wrote."""


class GatewayProcess:
    """A running gateway. Its output is collected from the first byte to the last."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._stdout: list[bytes] = []
        self._stderr: list[bytes] = []
        self._listening_line: asyncio.Future[LogLine] = asyncio.get_running_loop().create_future()
        assert process.stdout is not None
        assert process.stderr is not None
        self._readers = [
            asyncio.create_task(self._collect(process.stdout, self._stdout)),
            asyncio.create_task(self._collect(process.stderr, self._stderr)),
        ]
        self.url = self.ops_url = ""
        self.config = Path()

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """How it ended, None while it runs; negative for a signal."""
        return self._process.returncode

    @property
    def stdout(self) -> str:
        """What it wrote there so far."""
        return b"".join(self._stdout).decode("utf-8", "backslashreplace")

    @property
    def stderr(self) -> str:
        """What it wrote there so far."""
        return b"".join(self._stderr).decode("utf-8", "backslashreplace")

    def logs(self, event: str | None = None) -> list[LogLine]:
        """The log, one JSON object per line; ValueError where a line is none."""
        lines = [json.loads(line) for line in self.stdout.splitlines()]
        return [line for line in lines if event in {None, line.get("event")}]

    async def metrics(self) -> list[Sample]:
        """The samples of one scrape; `total` adds some of them up."""
        async with aiohttp.ClientSession() as session, session.get(self.ops_url + "/metrics") as answer:
            answer.raise_for_status()
            text = await answer.text()
        return [sample for family in text_string_to_metric_families(text) for sample in family.samples]

    def rss_bytes(self) -> int:
        """The memory it holds now."""
        return self._memory("VmRSS")

    def peak_rss_bytes(self) -> int:
        """The most memory it ever held."""
        return self._memory("VmHWM")

    def open_fds(self) -> int:
        """How many file descriptors it has open now."""
        return len(list(Path(f"/proc/{self.pid}/fd").iterdir()))

    async def wait_until_listening(self, seconds: float = START_TIMEOUT) -> None:
        """Wait until it says where it listens; DiedError if it ends before."""
        try:
            async with asyncio.timeout(seconds):
                line = await self._listening_line
        except TimeoutError:
            raise GatewayExitedError(f"not listening after {seconds} s\n{self.stdout}\n{self.stderr[-2000:]}") from None
        self.url, self.ops_url = str(line["url"]), str(line["ops_url"])

    def send_sighup(self) -> None:
        """Ask it to read its configuration anew (SIGHUP)."""
        self._signal(signal.SIGHUP)

    def terminate(self) -> None:
        """Ask it to end (SIGTERM), and do not wait for that."""
        self._signal(signal.SIGTERM)

    async def wait_until_exit(self, seconds: float = STOP_TIMEOUT) -> int:
        """Wait until it has ended by itself. How it ended; TimeoutError where it does not."""
        async with asyncio.timeout(seconds):
            return await self._wait()

    async def stop(self, seconds: float = STOP_TIMEOUT) -> int:
        """Ask it to end (SIGTERM); kill it where it does not within `seconds`. How it ended."""
        self._signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(seconds):
                return await self._wait()
        except TimeoutError:
            return await self.kill()

    async def kill(self) -> int:
        """End it as a power cut would (SIGKILL). How it ended."""
        self._signal(signal.SIGKILL)
        return await self._wait()

    def _memory(self, line: str) -> int:
        status = Path(f"/proc/{self.pid}/status").read_text()
        return 1024 * int(status.partition(f"{line}:")[2].split()[0])

    def _signal(self, number: signal.Signals) -> None:
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(number)

    async def _wait(self) -> int:
        code = await self._process.wait()
        await asyncio.gather(*self._readers)
        return code

    async def _collect(self, stream: asyncio.StreamReader, lines: list[bytes]) -> None:
        while line := await stream.readline():
            lines.append(line)
            if lines is self._stdout and not self._listening_line.done() and b'"listening"' in line:
                self._listening_line.set_result(json.loads(line))
        if lines is self._stdout and not self._listening_line.done():
            code = await self._process.wait()
            self._listening_line.set_exception(
                GatewayExitedError(f"exit code {code}\n{self.stdout}\n{self.stderr[-2000:]}")
            )


async def start_gateway(
    directory: Path, config: Mapping[str, JsonValue] | str, env: Mapping[str, str]
) -> GatewayProcess:
    """Write the configuration (a mapping, or YAML text) into `directory` and serve it; return once it listens.

    The process sees `env` and the search path, and nothing else of this environment.
    """
    path = directory / "gateway.yaml"
    path.write_text(config if isinstance(config, str) else yaml.safe_dump(dict(config)))
    gateway = GatewayProcess(await _spawn(["serve", "--config", str(path)], env))
    gateway.config = path
    try:
        await gateway.wait_until_listening()
    except BaseException:
        await gateway.kill()
        raise
    return gateway


async def _spawn(arguments: Sequence[str], env: Mapping[str, str]) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gateway", *arguments,
        cwd=ROOT, env={"PATH": os.environ.get("PATH", ""), **env}, limit=16_000_000,
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip


def metric_sum(samples: Sequence[Sample], name: str, **labels: str) -> float:
    """The sum of the samples of that name which carry these labels; 0 where there are none."""
    required = labels.items()
    return sum(sample.value for sample in samples if sample.name == name and required <= sample.labels.items())
