"""Fixtures: a gateway and a client application of Prompt Studio's API."""

from __future__ import annotations

from typing import Protocol

import aiohttp
import pytest

from providers.contract import JsonValue
from tests.api.prompt_studio.app_client import PromptStudioApp
from tests.conftest import StartGateway
from tests.support.configuration import PROVIDER_SECRETS


class StartApp(Protocol):
    """Type of the fixture `start_app`."""

    async def __call__(self, **overrides: JsonValue) -> PromptStudioApp:
        """Start a gateway with the tests' configuration and these changes; returns the application of client "one"."""


@pytest.fixture
def start_app(gateway: StartGateway, session: aiohttp.ClientSession) -> StartApp:
    """Factory of applications."""

    async def start(**overrides: JsonValue) -> PromptStudioApp:
        return PromptStudioApp(session, await gateway(None, PROVIDER_SECRETS, **overrides))

    return start
