"""What tests of replicas share: their server, the two of them, and somebody who takes callbacks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.faults.answers import reply
from tests.faults.upstream import Upstream
from tests.replicas.fleet import Fleet
from tests.valkey import Valkey, running_server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    import aiohttp

    from tests.conftest import StartGateway


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Valkey]:
    """One that writes each change to disk before it says so."""
    with running_server(tmp_path / "server") as running:
        yield running


@pytest.fixture
def fleet(server: Valkey, gateway: StartGateway, session: aiohttp.ClientSession, tmp_path: Path) -> Fleet:
    """Two replicas that have not begun."""
    return Fleet(gateway, session, tmp_path, server)


@pytest.fixture
async def receiver() -> AsyncIterator[Upstream]:
    """Somebody who takes every callback."""
    async with Upstream() as running:
        running.default = reply(204)
        yield running
