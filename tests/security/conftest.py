"""Fixture: one gateway shared by these tests."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from providers.contract import JsonValue
from tests.security.gateway_harness import GatewayHarness, running_gateway

SCOPES: JsonValue = {
    "one": {"workflows": ["*", "prompt_studio/*", "promptlayer/*"]},
    "two": {"workflows": ["layer", "prompt_studio/public-*"]},
}
"""The first client may run everything by any name, the second one little."""


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[GatewayHarness]:
    """Shared gateway."""
    async with running_gateway(tmp_path_factory.mktemp("edge"), clients=SCOPES) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="session")
async def harness(shared: GatewayHarness) -> AsyncIterator[GatewayHarness]:
    """Harness of the shared gateway; asserts afterwards that the next request succeeds."""
    shared.reset()
    yield shared
    await shared.assert_healthy()
