"""Fixtures: every store implementation, opened, as a parameter."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.store.contract import Store
from tests.store.samples import STORES
from tests.support.virtual_clock import VirtualClock


@pytest.fixture
def clock() -> VirtualClock:
    """Clock of the store under test."""
    return VirtualClock()


@pytest.fixture(params=sorted(STORES))
async def store(request: pytest.FixtureRequest, tmp_path: Path, clock: VirtualClock) -> AsyncIterator[Store]:
    """Empty store."""
    made = STORES[request.param](tmp_path, clock)
    await made.open()
    yield made
    await made.close()
