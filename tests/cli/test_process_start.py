"""The process of `runward serve` in its surroundings: standard streams that are closed or not read, early signals."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp
import pytest
import yaml

from tests.support.configuration import PROVIDER_SECRETS, gateway_config
from tests.support.process import ROOT, inherited_environment, start_gateway
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Mapping

    from providers.contract import JsonValue

EXIT_TIMEOUT = 60.0  # seconds; allows for a busy machine


def serve_command(directory: Path, server: Mapping[str, JsonValue] | None = None) -> list[str]:
    """Write a configuration; returns the command that serves it."""
    path = directory / "gateway.yaml"
    config = gateway_config("http://127.0.0.1:1", "http://127.0.0.1:2", server=dict(server or {}))
    path.write_text(yaml.safe_dump(config))
    return [sys.executable, "-m", "gateway", "serve", "--config", str(path)]


def environment() -> dict[str, str]:
    """Environment variables of a gateway."""
    return {**inherited_environment(), **PROVIDER_SECRETS}


def start(command: list[str], directory: Path, stdout: int | None = None) -> subprocess.Popen[bytes]:
    """Start a process; its standard error is the file `stderr.log`."""
    with (directory / "stderr.log").open("wb") as stderr:
        return subprocess.Popen(command, cwd=ROOT, env=environment(), stdout=stdout, stderr=stderr)


def descriptor_path(pid: int, number: int) -> Path:
    """The file of a descriptor."""
    return Path(f"/proc/{pid}/fd/{number}").readlink()


async def wait_for_exit(process: subprocess.Popen[bytes]) -> int:
    """Exit code, negative for a signal."""
    try:
        return await asyncio.to_thread(process.wait, EXIT_TIMEOUT)
    except subprocess.TimeoutExpired:
        process.kill()
        raise


async def test_a_process_with_closed_standard_streams_serves(tmp_path: Path, unused_tcp_port: int) -> None:
    """The descriptors 0 to 2 are /dev/null, never a socket or the store's file."""
    command = " ".join(serve_command(tmp_path, {"port": unused_tcp_port}))
    process = start(["/bin/sh", "-c", f"exec {command} <&- >&- 2>&-"], tmp_path)
    try:
        async with aiohttp.ClientSession() as session:
            for _ in range(600):
                try:
                    async with session.get(f"http://127.0.0.1:{unused_tcp_port}/healthz") as response:
                        assert 200 == response.status
                        break
                except aiohttp.ClientConnectionError:
                    assert process.poll() is None
                    await asyncio.sleep(0.1)
        streams = [descriptor_path(process.pid, number) for number in range(3)]
        assert [Path("/dev/null")] * 3 == streams
    finally:
        process.terminate()
    assert 0 == await wait_for_exit(process)


async def test_an_output_that_is_not_read_stops_nothing(tmp_path: Path, unused_tcp_port: int) -> None:
    """Requests are answered although the pipe is full; lost lines are counted; SIGTERM ends the process."""
    ops_port = unused_tcp_port
    read_end, write_end = os.pipe()
    process = start(serve_command(tmp_path, {"port": 0, "ops_port": ops_port}), tmp_path, write_end)
    os.close(write_end)
    try:
        listening = b""
        while b'"ops_url"' not in listening:
            listening += await asyncio.to_thread(os.read, read_end, 65536)
        url = listening.partition(b'"url":"')[2].partition(b'"')[0].decode()
        async with aiohttp.ClientSession() as session, asyncio.timeout(EXIT_TIMEOUT):
            for _ in range(3000):  # a line each, of 200 bytes: far more than a pipe takes
                async with session.get(url + "/runs") as response:
                    assert response.status in {401, 429}
            async with session.get(f"http://127.0.0.1:{ops_port}/metrics") as response:
                assert "runward_log_lines_dropped_total 0.0" in await response.text()  # 4 MiB are kept
    finally:
        process.terminate()
    assert 0 == await wait_for_exit(process)
    os.close(read_end)


async def test_no_line_is_lost_at_a_normal_end(tmp_path: Path) -> None:
    """The last lines are those of the shutdown."""
    config = gateway_config("http://127.0.0.1:1", "http://127.0.0.1:2")
    gateway = await start_gateway(tmp_path, config, PROVIDER_SECRETS)
    async with aiohttp.ClientSession() as session:
        for _ in range(50):
            async with session.get(gateway.url + "/runs") as response:
                assert response.status in {401, 429}
    assert 0 == await gateway.stop()
    assert 50 == len(gateway.logs("request"))
    assert 1 == len(gateway.logs("draining"))


def handles_hangup(pid: int) -> bool:
    """Return True once the process ignores or handles SIGHUP (proc(5))."""
    fields = dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return bool((int(fields["SigIgn"], 16) | int(fields["SigCgt"], 16)) & 1 << (signal.SIGHUP - 1))


@pytest.mark.parametrize("seed", range(5))
async def test_a_signal_at_any_moment_of_the_start_ends_it_cleanly(tmp_path: Path, seed: int) -> None:
    """SIGTERM: exit code 0, or that of the signal before anything was started; never a traceback.

    SIGHUP before it does not end the process, from the first moment at which Python runs Runward.
    """
    delay = random.Random(seed)
    process = start(serve_command(tmp_path), tmp_path, subprocess.DEVNULL)
    await asyncio.sleep(delay.uniform(0, 0.1))
    if seed % 2:
        await wait_until(lambda: handles_hangup(process.pid))
        for _ in range(20):
            process.send_signal(signal.SIGHUP)
            await asyncio.sleep(delay.uniform(0, 0.05))
        assert process.poll() is None
    await asyncio.sleep(delay.uniform(0, 1.0))
    number = signal.SIGINT if seed % 2 else signal.SIGTERM  # before, Python itself prints a traceback for SIGINT
    process.send_signal(number)
    assert await wait_for_exit(process) in {0, -number}
    assert "" == (tmp_path / "stderr.log").read_text()
