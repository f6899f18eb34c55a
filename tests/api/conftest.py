"""The server that most tests of this package talk to."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.api.listening import Listening, listening


@pytest.fixture
async def here() -> AsyncIterator[Listening]:
    """A server with the gateway's middlewares."""
    async with listening() as running:
        yield running
