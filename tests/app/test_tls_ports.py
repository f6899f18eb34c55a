"""Access to a running gateway: TLS, client certificates, IP allow-lists, operations keys, and their hot reload."""

from __future__ import annotations

import asyncio
import ssl
from typing import TYPE_CHECKING

import aiohttp
import pytest

from gateway.auth.keys import hash_key, new_key
from gateway.clock import SystemClock
from tests.app.tls_harness import HOST, TestAuthority
from tests.support.client import PROMPT_STUDIO_BODY, auth_headers, post_run
from tests.support.config_files import wait_for_reloads, write_gateway_config
from tests.support.fake_upstream.provider_responses import prompt_studio_reply
from tests.support.process import GatewayExitedError
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from providers.contract import JsonValue
    from tests.conftest import StartGateway
    from tests.support.fake_upstream.upstream import FakeUpstream

DONE = prompt_studio_reply({"completion": "because"})
CERTIFICATE_CLIENT: dict[str, JsonValue] = {"certificates": ["checkout.internal"], "workflows": ["*"]}


@pytest.fixture
def authority(tmp_path: Path) -> TestAuthority:
    directory = tmp_path / "tls"
    directory.mkdir()
    return TestAuthority.create(directory)


@pytest.fixture
async def no_reuse() -> AsyncIterator[aiohttp.ClientSession]:
    """Session with a new connection for each request."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as running:
        yield running


async def status(session: aiohttp.ClientSession, url: str, context: ssl.SSLContext, **headers: str) -> int:
    """Return the status of a GET."""
    async with session.get(url, ssl=context, headers=headers) as answer:
        return answer.status


async def run_status(session: aiohttp.ClientSession, url: str, context: ssl.SSLContext, **headers: str) -> int:
    """Return the status of a run."""
    async with session.post(url + "/run", json=dict(PROMPT_STUDIO_BODY), ssl=context, headers=headers) as answer:
        return answer.status


async def test_both_ports_use_tls(
    gateway: StartGateway, upstream: FakeUpstream, authority: TestAuthority, no_reuse: aiohttp.ClientSession
) -> None:
    upstream.default = DONE
    running = await gateway(server={"tls": authority.server_config()})
    context = authority.client_context()
    assert running.url.startswith("https://")
    assert running.ops_url.startswith("https://")
    assert 200 == await run_status(no_reuse, running.url, context, **auth_headers("one"))
    assert 200 == await status(no_reuse, running.ops_url + "/metrics", context)


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion")
async def test_versions_before_tls_1_2_are_refused(
    gateway: StartGateway, authority: TestAuthority, no_reuse: aiohttp.ClientSession
) -> None:
    running = await gateway(server={"tls": authority.server_config()})
    old = authority.client_context()
    old.set_ciphers("ALL:@SECLEVEL=0")
    old.minimum_version = ssl.TLSVersion.TLSv1
    old.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises(aiohttp.ClientConnectorError):
        await status(no_reuse, running.url + "/healthz", old)
    assert 200 == await status(no_reuse, running.url + "/healthz", authority.client_context())


async def test_the_operations_port_may_stay_without_tls(
    gateway: StartGateway, authority: TestAuthority, no_reuse: aiohttp.ClientSession
) -> None:
    running = await gateway(server={"tls": authority.server_config(), "ops_tls": {"enabled": False}})
    assert running.ops_url.startswith("http://")
    async with no_reuse.get(running.ops_url + "/readyz") as answer:
        assert 200 == answer.status


async def test_a_required_client_certificate_is_required(
    gateway: StartGateway, authority: TestAuthority, no_reuse: aiohttp.ClientSession
) -> None:
    """Only certificates of the configured authority are accepted; the operations port can be exempt."""
    tls = authority.server_config() | {"client_ca": str(authority.ca_file), "client_certificates": "required"}
    running = await gateway(server={"tls": tls, "ops_tls": {"client_certificates": "none"}})
    (other_directory := authority.directory / "other").mkdir()
    stranger = TestAuthority.create(other_directory).issue("stranger", "checkout.internal")
    known = authority.client_context(authority.issue("app", "app.internal"))
    assert 200 == await status(no_reuse, running.url + "/healthz", known)
    for refused in (authority.client_context(), authority.client_context(stranger)):
        with pytest.raises((aiohttp.ClientError, OSError)):
            await status(no_reuse, running.url + "/healthz", refused)
    assert 200 == await status(no_reuse, running.ops_url + "/healthz", authority.client_context())


async def test_a_certificate_names_a_client(
    gateway: StartGateway, upstream: FakeUpstream, authority: TestAuthority, no_reuse: aiohttp.ClientSession
) -> None:
    """Without a key; a presented key takes precedence, and an unknown certificate names no client."""
    upstream.default = DONE
    tls = authority.server_config() | {"client_ca": str(authority.ca_file), "client_certificates": "optional"}
    running = await gateway(server={"tls": tls}, clients={"checkout": CERTIFICATE_CLIENT})
    named = authority.client_context(authority.issue("checkout", "checkout.internal"))
    unknown = authority.client_context(authority.issue("unknown", "unknown.internal"))
    assert 200 == await run_status(no_reuse, running.url, named)
    assert 200 == await run_status(no_reuse, running.url, named, **auth_headers("one"))
    assert 401 == await run_status(no_reuse, running.url, named, Authorization="Bearer wrong")
    assert 401 == await run_status(no_reuse, running.url, unknown)
    assert 401 == await run_status(no_reuse, running.url, authority.client_context())
    clients = [line["client"] for line in running.logs("request") if line["status"] == 200]
    assert ["checkout", "one"] == clients
    assert 2 == len(upstream.requests())


async def test_a_new_certificate_is_used_without_dropping_a_connection(
    gateway: StartGateway, authority: TestAuthority
) -> None:
    running = await gateway(server={"tls": authority.server_config(), "header_timeout": "1m"})
    context = authority.client_context()
    port = int(running.url.rpartition(":")[2])
    reader, writer = await asyncio.open_connection(HOST, port, ssl=context)
    before = writer.get_extra_info("peercert")["serialNumber"]
    authority.issue("server", HOST)
    await wait_for_reloads(running, 1)
    writer.write(b"GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    assert (await reader.read()).startswith(b"HTTP/1.1 200")
    writer.close()
    _, fresh = await asyncio.open_connection(HOST, port, ssl=context)
    assert before != fresh.get_extra_info("peercert")["serialNumber"]
    fresh.close()
    assert [] == running.logs("reload_refused")


async def test_an_unusable_certificate_is_rejected_at_reload(
    gateway: StartGateway, authority: TestAuthority, no_reuse: aiohttp.ClientSession
) -> None:
    """The previous certificate stays in use; the log names the place."""
    running = await gateway(server={"tls": authority.server_config()})
    authority.issue("server", HOST, days=(-30, -1))
    await wait_for_reloads(running, 1)
    assert [["server.tls.cert: has expired"]] == [line["places"] for line in running.logs("reload_refused")]
    assert 200 == await status(no_reuse, running.url + "/healthz", authority.client_context())
    authority.issue("server", HOST)
    await wait_for_reloads(running, 2)
    assert 1 == len(running.logs("reloaded"))


@pytest.mark.parametrize(
    ("days", "key_of", "words"),
    [
        ((-30, -1), "server", "server.tls.cert: has expired"),
        ((-1, 30), "other", "server.tls.key: does not belong to the certificate in cert"),
    ],
    ids=["expired", "other key"],
)
async def test_a_certificate_that_cannot_be_used_is_refused_at_start(
    gateway: StartGateway, authority: TestAuthority, days: tuple[int, int], key_of: str, words: str
) -> None:
    pem, _ = authority.issue("server", HOST, days=days)
    authority.issue("other", HOST)
    key = authority.directory / f"{key_of}.key"
    with pytest.raises(GatewayExitedError, match=words):
        await gateway(server={"tls": {"cert": str(pem), "key": str(key)}})


async def test_switching_tls_off_needs_a_restart(
    gateway: StartGateway, upstream: FakeUpstream, authority: TestAuthority, no_reuse: aiohttp.ClientSession
) -> None:
    running = await gateway(server={"tls": authority.server_config()})
    write_gateway_config(running, upstream.url)
    await wait_until(lambda: [] != running.logs("needs_restart"))
    assert [["server.ops_tls", "server.tls"]] == [sorted(line["settings"]) for line in running.logs("needs_restart")]  # type: ignore[call-overload]
    assert 200 == await status(no_reuse, running.url + "/healthz", authority.client_context())


async def test_a_client_connects_from_its_networks_only(
    gateway: StartGateway, upstream: FakeUpstream, session: aiohttp.ClientSession
) -> None:
    """The forwarded address counts behind a trusted proxy. The list is reloaded, and the log has the address."""
    upstream.default = DONE
    allowed: dict[str, JsonValue] = {"one": {"addresses": ["192.0.2.0/24"]}}
    running = await gateway(server={"trusted_proxies": [HOST]}, clients=allowed)
    statuses = [
        (await post_run(session, running.url, PROMPT_STUDIO_BODY, auth_headers(client) | forwarded)).summary[:2]
        for client, forwarded in (
            ("one", {}),
            ("one", {"X-Forwarded-For": "198.51.100.1"}),
            ("one", {"X-Forwarded-For": "192.0.2.9"}),
            ("two", {}),
        )
    ]
    assert [(403, "forbidden"), (403, "forbidden"), (200, None), (200, None)] == statuses
    assert 2 == len(upstream.requests())
    assert [HOST, "198.51.100.1"] == [line["peer"] for line in running.logs("address_refused")]
    write_gateway_config(running, upstream.url, server={"trusted_proxies": [HOST]})
    await wait_for_reloads(running, 1)
    assert 200 == (await post_run(session, running.url, PROMPT_STUDIO_BODY, auth_headers("one"))).status


async def test_the_operations_port_may_need_a_key(
    gateway: StartGateway, upstream: FakeUpstream, session: aiohttp.ClientSession
) -> None:
    """Client keys are refused; liveness and readiness need none. Keys are reloaded."""
    key, later = (new_key(SystemClock()) for _ in range(2))
    running = await gateway(server={"ops_keys": [{"hash": hash_key(key)}]})

    async def ops_status(path: str, **headers: str) -> int:
        async with session.get(running.ops_url + path, headers=headers) as answer:
            return answer.status

    open_routes = {path: await ops_status(path) for path in ("/healthz", "/readyz")}
    assert {"/healthz": 200, "/readyz": 200} == open_routes
    closed = ("/metrics", "/callbacks", "/docs", "/openapi.json", "/nothing")
    assert dict.fromkeys(closed, 401) == {path: await ops_status(path) for path in closed}
    assert 401 == await ops_status("/metrics", **auth_headers("one"))
    assert 200 == await ops_status("/metrics", Authorization=f"Bearer {key}")
    write_gateway_config(running, upstream.url, server={"ops_keys": [{"hash": hash_key(later)}]})
    await wait_for_reloads(running, 1)
    assert 401 == await ops_status("/metrics", Authorization=f"Bearer {key}")
    assert 200 == await ops_status("/metrics", Authorization=f"Bearer {later}")
    assert key not in running.stdout
