"""What the tests share: a client's session, a fake upstream, and the gateway as a process."""

from __future__ import annotations

import itertools
import sys
from base64 import b64encode
from typing import TYPE_CHECKING, Protocol

import aiohttp
import pytest

from tests.support.client import PostRun, ReceivedResponse, auth_headers, post_run
from tests.support.configuration import CLIENT_KEYS, PROVIDER_SECRETS, gateway_config
from tests.support.fake_upstream.upstream import FakeUpstream
from tests.support.process import GatewayProcess, start_gateway

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

    from providers.contract import JsonValue


class StartGateway(Protocol):
    """The fixture `gateway`."""

    async def __call__(
        self,
        config: Mapping[str, JsonValue] | str | None = None,
        env: Mapping[str, str] = PROVIDER_SECRETS,
        **overrides: JsonValue,
    ) -> GatewayProcess:
        """Start one; without a `config` it is that of the tests, both providers being the fixture `upstream`."""


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    """A client that keeps no cookies and does not limit itself."""
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar()) as running:
        yield running


@pytest.fixture
async def upstream() -> AsyncIterator[FakeUpstream]:
    """A fake upstream that answers for both providers; nothing is scripted."""
    async with FakeUpstream() as running:
        yield running


@pytest.fixture
async def gateway(tmp_path: Path, upstream: FakeUpstream) -> AsyncIterator[StartGateway]:
    """A factory of running gateways. They are stopped at the end, and then searched for secrets (R79)."""
    started: list[GatewayProcess] = []
    numbers = itertools.count(1)

    async def start(
        config: Mapping[str, JsonValue] | str | None = None,
        env: Mapping[str, str] = PROVIDER_SECRETS,
        **overrides: JsonValue,
    ) -> GatewayProcess:
        directory = tmp_path / f"gateway-{next(numbers)}"
        directory.mkdir()
        if config is None:
            config = gateway_config(upstream.url, upstream.url, **overrides)
        started.append(await start_gateway(directory, config, env))
        return started[-1]

    yield start
    for each in started:
        await each.stop()
    written = "".join(each.stdout + each.stderr for each in started)
    sys.stdout.write(written)  # pytest shows it where a test failed
    assert [] == [name for name, secret in {**PROVIDER_SECRETS, **CLIENT_KEYS}.items() if secret in written]
    encoded = {
        name: b64encode(secret.encode()).decode() for name, secret in {**PROVIDER_SECRETS, **CLIENT_KEYS}.items()
    }
    assert [] == [name for name, secret in encoded.items() if secret.rstrip("=") in written]


@pytest.fixture
def run(session: aiohttp.ClientSession) -> PostRun:
    """POST /run as one of the configured clients."""

    async def post(
        gateway: GatewayProcess, body: Mapping[str, JsonValue], *, client: str = "one", **headers: str
    ) -> ReceivedResponse:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await post_run(session, gateway.url, body, auth_headers(client) | named)

    return post
