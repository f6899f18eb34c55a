"""One gateway, shared by all of these tests that need no other."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from providers.contract import JsonValue
from tests.edge.world import World, serving

SCOPES: JsonValue = {
    "one": {"workflows": ["*", "prompt_studio/*", "promptlayer/*"]},
    "two": {"workflows": ["layer", "prompt_studio/public-*"]},
}
"""The first client may run everything by any name, the second one little."""


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    """The gateway."""
    async with serving(tmp_path_factory.mktemp("edge"), clients=SCOPES) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="session")
async def world(shared: World) -> AsyncIterator[World]:
    """The gateway as one test sees it; whatever the test did, the next request is fine."""
    shared.begin()
    yield shared
    await shared.check()
