"""An app and the gateway that it calls."""

from __future__ import annotations

from typing import Protocol

import aiohttp
import pytest

from providers.contract import JsonValue
from tests.api.prompt_studio.client import App
from tests.configuration import SECRETS
from tests.conftest import StartGateway


class Serve(Protocol):
    """The fixture `serve`."""

    async def __call__(self, **overrides: JsonValue) -> App:
        """Start a gateway with the tests' configuration, changed; the app of its client "one"."""


@pytest.fixture
def serve(gateway: StartGateway, session: aiohttp.ClientSession) -> Serve:
    """A factory of apps."""

    async def start(**overrides: JsonValue) -> App:
        return App(session, await gateway(None, SECRETS, **overrides))

    return start
