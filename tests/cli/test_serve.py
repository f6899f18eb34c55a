"""`runward serve` as a process: startup and startup errors."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from typing import TYPE_CHECKING

import pytest
import yaml

from gateway.cli.serve import asyncio_runner
from tests.support.configuration import PROVIDER_SECRETS, gateway_config
from tests.support.process import ROOT, GatewayExitedError, start_gateway

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from providers.contract import JsonValue


@pytest.fixture
def taken_port() -> Iterator[int]:
    """Return a port in use."""
    with socket.create_server(("127.0.0.1", 0)) as held:
        yield held.getsockname()[1]


@pytest.mark.parametrize("which", ["port", "ops_port"])
async def test_a_port_that_is_taken_is_one_line(tmp_path: Path, taken_port: int, which: str) -> None:
    """R84: exit code 2 at once; the error names the port."""
    config = gateway_config("http://127.0.0.1:1", "http://127.0.0.1:2", server={which: taken_port})
    with pytest.raises(GatewayExitedError) as died:
        await start_gateway(tmp_path, config, PROVIDER_SECRETS)
    code, *lines = [line for line in str(died.value).splitlines() if line]
    assert "exit code 2" == code
    [line] = lines
    assert line.startswith("runward: cannot listen: ")
    assert str(taken_port) in line


async def test_a_host_that_does_not_exist_is_one_line(tmp_path: Path) -> None:
    config = gateway_config("http://127.0.0.1:1", "http://127.0.0.1:2", server={"host": "no-such-host.invalid"})
    with pytest.raises(GatewayExitedError, match=r"exit code 2\n+runward: cannot listen: [^\n]*\n*\Z"):
        await start_gateway(tmp_path, config, PROVIDER_SECRETS)


def test_the_faster_loop_is_used_where_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise the standard event loop."""
    uvloop = pytest.importorskip("uvloop")
    assert uvloop.run is asyncio_runner()
    monkeypatch.setitem(sys.modules, "uvloop", None)
    assert asyncio.run is asyncio_runner()


async def run_serve(tmp_path: Path, *arguments: str, **overrides: JsonValue) -> tuple[int | None, str]:
    """Return exit code and standard error of a `serve` that fails to start."""
    path = tmp_path / "gateway.yaml"
    path.write_text(yaml.safe_dump(gateway_config("http://127.0.0.1:1", "http://127.0.0.1:2", **overrides)))
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gateway", "serve", "--config", str(path), *arguments,
        cwd=ROOT, env={"PATH": os.environ.get("PATH", ""), **PROVIDER_SECRETS}, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    async with asyncio.timeout(60):
        _, complaints = await process.communicate()
    return process.returncode, complaints.decode()


@pytest.mark.parametrize("url", ["memory://", "sqlite:///runward.db"])
async def test_workers_need_a_shared_store(tmp_path: Path, url: str) -> None:
    """R84: otherwise each worker would apply the limits alone; the error names the setting."""
    code, complaint = await run_serve(tmp_path, "--workers", "2", store={"url": url})
    assert (2, 1) == (code, complaint.count("\n"))
    assert complaint.startswith("runward: --workers 2 needs a store that processes share: set store.url to redis://")


@pytest.mark.parametrize("count", ["0", "-1", "65", "many"])
async def test_an_invalid_number_of_workers_is_refused(tmp_path: Path, count: str) -> None:
    code, complaint = await run_serve(tmp_path, "--workers", count)
    assert 2 == code
    assert "--workers" in complaint


async def test_one_worker_is_a_plain_process(tmp_path: Path, taken_port: int) -> None:
    """With any store; it listens on its port."""
    code, complaint = await run_serve(tmp_path, "--workers", "1", server={"port": taken_port})
    assert 2 == code
    assert complaint.startswith("runward: cannot listen: ")


async def test_a_taken_port_is_one_line_with_workers_too(tmp_path: Path, taken_port: int) -> None:
    """R84: no worker is started for it."""
    store: JsonValue = {"url": "redis://127.0.0.1:1/0"}
    for which in ("port", "ops_port"):
        code, complaint = await run_serve(tmp_path, "--workers", "2", server={which: taken_port}, store=store)
        assert (2, f"runward: cannot listen: 127.0.0.1:{taken_port}: Address already in use\n") == (code, complaint)


async def test_a_worker_is_not_started_by_hand(tmp_path: Path) -> None:
    """It has no socket, and fails with a one-line error."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gateway", "worker", "3", cwd=tmp_path, env={}, stderr=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(60):
        _, complaint = await process.communicate()
    assert (2, b"runward: only `runward serve --workers` starts workers\n") == (process.returncode, complaint)
