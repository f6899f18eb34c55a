"""Fixtures of replicas: server, a pair of gateways, callback receiver."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.replicas.replica_pair import ReplicaPair
from tests.support.valkey import ValkeyServer, running_server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import aiohttp

    from tests.conftest import StartGateway


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ValkeyServer]:
    """Server that fsyncs each write before it acknowledges it."""
    with running_server(tmp_path / "server") as running:
        yield running


@pytest.fixture
def replicas(
    server: ValkeyServer, gateway: StartGateway, session: aiohttp.ClientSession, tmp_path: Path
) -> ReplicaPair:
    """Two replicas, not started."""
    return ReplicaPair(gateway, session, tmp_path, server)
