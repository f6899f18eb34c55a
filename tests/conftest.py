"""Shared fixtures: client session, fake upstream, gateway processes, store servers."""

from __future__ import annotations

import itertools
import signal
import ssl
import sys
from base64 import b64encode
from typing import TYPE_CHECKING, Protocol

import aiohttp
import pytest

from tests.support.client import PostRun, ReceivedResponse, auth_headers, post_run
from tests.support.configuration import CLIENT_KEYS, PROVIDER_SECRETS, gateway_config
from tests.support.examples import register_profiles
from tests.support.fake_upstream.responses import reply
from tests.support.fake_upstream.upstream import FakeUpstream
from tests.support.gateway_pool import GatewayPool
from tests.support.log_lines import deviations, lines_in
from tests.support.process import GatewayProcess, start_gateway
from tests.support.valkey import ValkeyServer, running_server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping
    from pathlib import Path

    from providers.contract import JsonValue

# A shell that starts the tests in the background lets them ignore SIGINT, and so every process that they start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


class StartGateway(Protocol):
    """Type of the fixture `gateway`."""

    async def __call__(
        self,
        config: Mapping[str, JsonValue] | str | None = None,
        env: Mapping[str, str] = PROVIDER_SECRETS,
        **overrides: JsonValue,
    ) -> GatewayProcess:
        """Start a gateway; by default with the tests' configuration and `upstream` for both providers."""


register_profiles()

sys.modules["rfc3987_syntax"] = None  # type: ignore[assignment]
"""Compiles grammars for 2 s when jsonschema imports it, for formats (`iri`, `iri-reference`) that no schema has."""

ssl.SSLContext.set_default_verify_paths = lambda _self: None  # type: ignore[method-assign, assignment]
"""Reads the system's authorities for 80 ms in each new context; tests in this process connect to no public server."""

PROCESS_FIXTURES = {"console", "gateway", "gateway_pool", "start_workers", "valkey"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that start processes by the fixtures that they use."""
    for item in items:
        if isinstance(item, pytest.Function) and PROCESS_FIXTURES & set(item.fixturenames):
            item.add_marker(pytest.mark.process)


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    """Client session without cookies and connection limit."""
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar()) as running:
        yield running


@pytest.fixture(scope="session")
def gateway_pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayPool]:
    """Gateways that the tests of this process share."""
    pool = GatewayPool(tmp_path_factory.mktemp("shared"))
    yield pool
    pool.close()


def shares_gateway(request: pytest.FixtureRequest) -> bool:
    """Return True if the test, its class or module is marked `shared_gateway`, and the test not `own_gateway`."""
    marked = request.node.get_closest_marker
    return marked("shared_gateway") is not None and marked("own_gateway") is None


@pytest.fixture
async def upstream(request: pytest.FixtureRequest) -> AsyncIterator[FakeUpstream]:
    """Fake upstream for both providers, without a script."""
    port = request.getfixturevalue("gateway_pool").upstream_port if shares_gateway(request) else 0
    async with FakeUpstream(port=port) as running:
        yield running


@pytest.fixture
async def receiver() -> AsyncIterator[FakeUpstream]:
    """Callback receiver on 127.0.0.1 that accepts every request."""
    async with FakeUpstream() as running:
        running.default = reply(204)
        yield running


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[ValkeyServer]:
    """Server of the test that fsyncs each write before it acknowledges it."""
    with running_server(tmp_path / "valkey") as server:
        yield server


@pytest.fixture
async def gateway(
    request: pytest.FixtureRequest, tmp_path: Path, upstream: FakeUpstream
) -> AsyncIterator[StartGateway]:
    """Factory of gateways, which are stopped or returned to the pool; their output is searched for secrets (R79).

    Their log lines are compared with the table of log events.
    """
    pool: GatewayPool | None = request.getfixturevalue("gateway_pool") if shares_gateway(request) else None
    started: list[GatewayProcess] = []
    leased: list[GatewayProcess] = []
    numbers = itertools.count(1)

    async def start(
        config: Mapping[str, JsonValue] | str | None = None,
        env: Mapping[str, str] = PROVIDER_SECRETS,
        **overrides: JsonValue,
    ) -> GatewayProcess:
        if pool is not None and config is None and env is PROVIDER_SECRETS:
            leased.append(await pool.lease(overrides))
            return leased[-1]
        directory = tmp_path / f"gateway-{next(numbers)}"
        directory.mkdir()
        if config is None:
            config = gateway_config(upstream.url, upstream.url, **overrides)
        started.append(await start_gateway(directory, config, env))
        return started[-1]

    yield start
    for each in started:
        await each.stop()
    written = "".join(each.stdout + each.stderr for each in (*started, *leased))
    if pool is not None:
        await upstream.stop()  # what still runs has to end
        for each in leased:
            await pool.release(each)
    sys.stdout.write(written)  # pytest shows it where a test failed
    assert [] == [name for name, secret in {**PROVIDER_SECRETS, **CLIENT_KEYS}.items() if secret in written]
    encoded = {
        name: b64encode(secret.encode()).decode() for name, secret in {**PROVIDER_SECRETS, **CLIENT_KEYS}.items()
    }
    assert [] == [name for name, secret in encoded.items() if secret.rstrip("=") in written]
    assert [] == deviations(lines_in(written))


@pytest.fixture
def run(session: aiohttp.ClientSession) -> PostRun:
    """POST /run as one of the configured clients."""

    async def post(
        gateway: GatewayProcess, body: Mapping[str, JsonValue], *, client: str = "one", **headers: str
    ) -> ReceivedResponse:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await post_run(session, gateway.url, body, auth_headers(client) | named)

    return post
