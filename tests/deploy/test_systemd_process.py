"""Notifications of a running gateway to systemd."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TypeAlias

import pytest
import yaml

from providers.contract import JsonValue
from tests.conftest import StartGateway
from tests.support.configuration import PROVIDER_SECRETS, gateway_config
from tests.support.process import START_TIMEOUT, GatewayProcess
from tests.support.valkey import shared_server

_PATIENCE = 20.0
_ENOUGH = 200  # datagrams; the watchdog's are among them

Environment: TypeAlias = dict[str, str]


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    """Socket of the service manager, at `notify` in the test's folder."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.settimeout(_PATIENCE)
        listening.bind(str(tmp_path / "notify"))
        yield listening


@pytest.fixture
def env(tmp_path: Path) -> Environment:
    """Environment variables of systemd, with a short watchdog interval."""
    return {**PROVIDER_SECRETS, "NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "200000"}


async def heard(manager: socket.socket, state: str) -> list[str]:
    """Return the lines of the next datagram that begins with `state`."""
    for _ in range(_ENOUGH):
        lines = (await asyncio.to_thread(manager.recv, 4096)).decode().split("\n")
        if lines[0] == state:
            return lines
    pytest.fail(f"{state} was not sent")


async def test_a_gateway_tells_each_step_of_its_life(
    gateway: StartGateway, manager: socket.socket, env: Environment
) -> None:
    started = await gateway(env=env)
    assert ["READY=1", f"STATUS=serving at {started.url}"] == await heard(manager, "READY=1")
    assert ["WATCHDOG=1"] == await heard(manager, "WATCHDOG=1")
    started.send_sighup()
    assert 2 == len(await heard(manager, "RELOADING=1"))
    assert ["READY=1"] == await heard(manager, "READY=1")
    started.terminate()
    assert ["STOPPING=1", "STATUS=draining"] == await heard(manager, "STOPPING=1")
    assert 0 == await started.wait_until_exit()


async def test_a_refused_reload_ends_the_reload_too(
    gateway: StartGateway, manager: socket.socket, env: Environment
) -> None:
    started = await gateway(env=env)
    await heard(manager, "READY=1")
    started.config.write_text("nonsense: true\n")
    started.send_sighup()
    await heard(manager, "RELOADING=1")
    assert ["READY=1"] == await heard(manager, "READY=1")
    assert 0 == await started.stop()
    assert 1 == len(started.logs("reload_refused"))


async def test_with_workers_the_supervisor_tells_it_once_for_all(
    tmp_path: Path, manager: socket.socket, env: Environment
) -> None:
    path = tmp_path / "gateway.yaml"
    path.write_text(yaml.safe_dump(gateway_config("http://127.0.0.1:1", "http://127.0.0.1:1", store=_shared_store())))
    command = [sys.executable, "-m", "gateway", "serve", "--workers", "2", "--config", str(path)]
    started = GatewayProcess(command, tmp_path, env)
    try:
        await started.wait_until_listening(3 * START_TIMEOUT)  # three processes start one after the other
        assert ["READY=1", f"STATUS=2 workers serve at {started.url}"] == await heard(manager, "READY=1")
        assert ["WATCHDOG=1"] == await heard(manager, "WATCHDOG=1")
        started.terminate()
        assert ["STOPPING=1", "STATUS=draining"] == await heard(manager, "STOPPING=1")
        assert 0 == await started.wait_until_exit()
    finally:
        await started.stop()


def _shared_store() -> JsonValue:
    return {"url": shared_server().url}
