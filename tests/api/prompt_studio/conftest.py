"""An app and the gateway that it calls."""

from __future__ import annotations

from typing import Protocol

import aiohttp
import pytest

from providers.contract import JsonValue
from tests.api.prompt_studio.app_client import PromptStudioApp
from tests.conftest import StartGateway
from tests.support.configuration import PROVIDER_SECRETS


class StartApp(Protocol):
    """The fixture `serve`."""

    async def __call__(self, **overrides: JsonValue) -> PromptStudioApp:
        """Start a gateway with the tests' configuration, changed; the app of its client "one"."""


@pytest.fixture
def start_app(gateway: StartGateway, session: aiohttp.ClientSession) -> StartApp:
    """A factory of apps."""

    async def start(**overrides: JsonValue) -> PromptStudioApp:
        return PromptStudioApp(session, await gateway(None, PROVIDER_SECRETS, **overrides))

    return start
