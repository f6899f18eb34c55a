"""Fixture: HTTP server of most tests in this package."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.http.server_harness import ServerHarness, running_server


@pytest.fixture
async def server() -> AsyncIterator[ServerHarness]:
    """A server with the gateway's middlewares."""
    async with running_server() as running:
        yield running
