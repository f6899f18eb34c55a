"""`runward serve` as a process: how it starts, and what it says where it can not."""

from __future__ import annotations

import asyncio
import socket
import sys
from typing import TYPE_CHECKING

import pytest

from gateway.cli.serve import event_loop
from tests.configuration import SECRETS, gateway_config
from tests.process import DiedError, start_gateway

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def taken() -> Iterator[int]:
    """A port on which somebody else listens."""
    with socket.create_server(("127.0.0.1", 0)) as held:
        yield held.getsockname()[1]


@pytest.mark.parametrize("which", ["port", "ops_port"])
async def test_a_port_that_is_taken_is_one_line(tmp_path: Path, taken: int, which: str) -> None:
    """R84: it ends at once with exit code 2, and names the port."""
    config = gateway_config("http://127.0.0.1:1", "http://127.0.0.1:2", server={which: taken})
    with pytest.raises(DiedError) as died:
        await start_gateway(tmp_path, config, SECRETS)
    code, *lines = [line for line in str(died.value).splitlines() if line]
    assert "exit code 2" == code
    [line] = lines
    assert line.startswith("runward: can not listen: ")
    assert str(taken) in line


async def test_a_host_that_does_not_exist_is_one_line(tmp_path: Path) -> None:
    config = gateway_config("http://127.0.0.1:1", "http://127.0.0.1:2", server={"host": "no-such-host.invalid"})
    with pytest.raises(DiedError, match=r"exit code 2\n+runward: can not listen: [^\n]*\n*\Z"):
        await start_gateway(tmp_path, config, SECRETS)


def test_the_faster_loop_is_used_where_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """And the standard one where it is not."""
    uvloop = pytest.importorskip("uvloop")
    assert uvloop.run is event_loop()
    monkeypatch.setitem(sys.modules, "uvloop", None)
    assert asyncio.run is event_loop()
