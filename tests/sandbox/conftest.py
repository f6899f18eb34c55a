"""Fixtures: the sandbox under a test clock."""

from __future__ import annotations

import pytest
from pytest_aiohttp.plugin import AiohttpClient

from gateway.sandbox import CALL_COUNTS, CallCounts, create_application
from tests.sandbox.clients import KEYS, Client, PromptLayerClient, PromptStudioClient
from tests.support.clock import ManualClock


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def client(clock: ManualClock, aiohttp_client: AiohttpClient) -> Client:
    """Client of the sandbox over HTTP."""
    return await aiohttp_client(create_application(clock, keys=KEYS))


@pytest.fixture
def calls(client: Client) -> CallCounts:
    assert client.app is not None
    return client.app[CALL_COUNTS]


@pytest.fixture
def promptlayer(client: Client) -> PromptLayerClient:
    return PromptLayerClient(client)


@pytest.fixture
def prompt_studio(client: Client) -> PromptStudioClient:
    return PromptStudioClient(client)
