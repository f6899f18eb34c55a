"""Egress proxy: providers and callback receivers are reached through tunnels."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from pydantic import SecretStr

from gateway.clock import SystemClock
from gateway.errors import CallbackUrlRefused
from gateway.observability.metrics import Metrics
from gateway.outbound.connect_tunnel import Proxy
from gateway.outbound.provider.client import ProviderClient
from gateway.outbound.provider.endpoint import ProviderEndpoint
from gateway.outbound.webhook import callback_url
from gateway.outbound.webhook.egress_policy import EgressPolicy
from gateway.outbound.webhook.http1_connection import DeliveryFault
from gateway.outbound.webhook.sender import WebhookMessage, WebhookResponse, WebhookSender, WebhookTimeouts
from providers.contract import Call, Cause, KeyHeader, ProviderFault
from tests.support.clock import ManualClock
from tests.support.connect_proxy import ConnectProxy, connect_proxy
from tests.support.fake_upstream import certificates
from tests.support.fake_upstream.responses import reply
from tests.support.fake_upstream.upstream import FakeUpstream, closed_port

KEY = "pl_CANARY0123456789"
CREDENTIALS = SecretStr("user:pass:word")
START = Call("POST", "/start", "start", safe=False, json={"input": "CANARY"})
MESSAGE = WebhookMessage("msg_run_1", 1_795_000_000, "v1,Zmlyc3Q=", b"{}")
with_openssl = pytest.mark.skipif(not certificates.openssl_available(), reason="there is no openssl program here")


@pytest.fixture
async def proxy() -> AsyncIterator[ConnectProxy]:
    """A proxy that knows one name."""
    async with connect_proxy(ConnectProxy(hosts={"provider.example": "127.0.0.1"})) as running:
        yield running


def provider_client(
    base_url: str, proxy_url: str, credentials: SecretStr | None = None, ca_file: Path | None = None
) -> ProviderClient:
    """Client of a provider behind the proxy."""
    endpoint = ProviderEndpoint(
        "p",
        base_url,
        KeyHeader("X-API-KEY"),
        SecretStr(KEY),
        ca_file=ca_file,
        connect_timeout=5.0,
        proxy=Proxy.from_settings(proxy_url, credentials),
    )
    return ProviderClient(endpoint, clock=SystemClock(), metrics=Metrics())


async def send(client: ProviderClient) -> int:
    """Send the start; returns the status."""
    try:
        return (await client.send(START, SystemClock().monotonic() + 10.0)).status
    finally:
        await client.close()


async def fault_of(client: ProviderClient) -> ProviderFault:
    """Send a start that raises ProviderFault."""
    with pytest.raises(ProviderFault) as caught:
        await send(client)
    assert "pass" not in caught.value.detail
    return caught.value


async def test_a_provider_is_reached_by_its_name_through_the_tunnel(
    proxy: ConnectProxy, upstream: FakeUpstream
) -> None:
    """The proxy resolves the name. The request for the tunnel has neither the key nor anything of the run."""
    upstream.default = reply(200, {})
    port = urlsplit(upstream.url).port
    assert 200 == await send(provider_client(f"http://provider.example:{port}", proxy.url, CREDENTIALS))
    [tunnel] = proxy.requests
    assert [
        f"CONNECT provider.example:{port} HTTP/1.1",
        f"Host: provider.example:{port}",
        "Proxy-Authorization: Basic dXNlcjpwYXNzOndvcmQ=",
    ] == tunnel.removesuffix("\r\n\r\n").split("\r\n")
    [request] = upstream.received
    assert ("POST", "/start", KEY, None) == (
        request.method,
        request.target,
        request.header("X-API-KEY"),
        request.header("Proxy-Authorization"),
    )


async def test_a_tunnel_is_used_again(proxy: ConnectProxy, upstream: FakeUpstream) -> None:
    """Connections are pooled as without a proxy."""
    upstream.default = reply(200, {})
    client, clock = provider_client(upstream.url, proxy.url), SystemClock()
    for _ in range(2):
        await client.send(START, clock.monotonic() + 10.0)
        await asyncio.sleep(0.2)
    await client.close()
    assert (2, 1) == (len(upstream.received), len(proxy.requests))


@with_openssl
async def test_tls_is_spoken_with_the_provider_itself(
    proxy: ConnectProxy, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The proxy sees ciphertext; the certificate is that of the provider's host."""
    authority = certificates.new_authority(tmp_path_factory.mktemp("authority"))
    async with FakeUpstream(tls=authority.trusted()) as upstream:
        upstream.default = reply(200, {})
        assert 200 == await send(provider_client(upstream.url, proxy.url, ca_file=authority.ca_file))
        assert 1 == len(upstream.received)
    assert proxy.forwarded
    assert b"CANARY" not in proxy.forwarded
    async with FakeUpstream(tls=authority.wrong_host()) as upstream:
        fault = await fault_of(provider_client(upstream.url, proxy.url, ca_file=authority.ca_file))
        assert (Cause.MISCONFIGURED, []) == (fault.cause, upstream.received)


@pytest.mark.parametrize(
    ("response", "detail"),
    [
        (b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n", "status 407"),
        (b"HTTP/1.1 502 Bad Gateway\r\n\r\n", "status 502"),
        (b"HTTP/1.1 302 Found\r\nLocation: http://elsewhere\r\n\r\n", "status 302"),
        (b"HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 200 OK\r\n", "has a body"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", "not HTTP"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"a" * 100_000, "too large"),
        (b"", "closed the connection"),
    ],
)
async def test_without_a_tunnel_nothing_was_sent(
    proxy: ConnectProxy, upstream: FakeUpstream, response: bytes, detail: str
) -> None:
    """The run may be started later: no byte has reached the provider."""
    proxy.response = response
    fault = await fault_of(provider_client(upstream.url, proxy.url, CREDENTIALS))
    assert Cause.UNREACHABLE is fault.cause
    assert detail in fault.detail
    assert [] == upstream.received
    assert not proxy.forwarded


async def test_a_proxy_that_is_not_there_is_an_unreachable_provider(upstream: FakeUpstream) -> None:
    """The provider is not connected to directly."""
    with closed_port() as url:
        fault = await fault_of(provider_client(upstream.url, url))
    assert (Cause.UNREACHABLE, []) == (fault.cause, upstream.received)


def policy(*allow: str, addresses: tuple[str, ...] = ()) -> EgressPolicy:
    """Return a policy whose resolver has these addresses for every name; none: names do not resolve here."""

    async def look_up(_host: str, _port: int) -> list[str]:
        if not addresses:
            raise OSError("unknown name")
        return list(addresses)

    return EgressPolicy(allow, resolver=look_up)


def sender(egress_policy: EgressPolicy, proxy_url: str) -> WebhookSender:
    """Sender behind a proxy."""
    return WebhookSender(
        egress_policy,
        ManualClock(),
        timeouts=WebhookTimeouts(total=10.0, connect=5.0),
        tls=ssl.create_default_context(),
        proxy=Proxy.from_settings(proxy_url, None),
    )


async def test_a_callback_is_delivered_through_the_tunnel(proxy: ConnectProxy, receiver: FakeUpstream) -> None:
    """By its name, which may not resolve here."""
    port = urlsplit(receiver.url).port
    url = f"http://provider.example:{port}/hook"
    assert WebhookResponse(204) == await sender(policy(f"provider.example:{port}"), proxy.url).deliver(url, MESSAGE)
    assert [f"provider.example:{port}"] == proxy.targets
    assert [f"provider.example:{port}"] == [request.header("Host") for request in receiver.received]


@pytest.mark.parametrize(
    ("url", "addresses"),
    [
        ("https://127.0.0.1/hook", ()),
        ("https://10.0.0.1/hook", ()),
        ("https://[::1]/hook", ()),
        ("https://169.254.169.254/latest", ()),
        ("https://metadata.internal/hook", ()),
        ("https://localhost/hook", ()),
        ("http://hooks.example/hook", ()),
        ("https://hooks.example:22/hook", ()),
        ("https://hooks.example/hook", ("10.0.0.1",)),
        ("https://hooks.example/hook", ("93.184.216.34", "10.0.0.1")),  # the proxy chooses one of them
    ],
)
async def test_a_private_receiver_is_refused_before_the_proxy_is_asked(
    proxy: ConnectProxy, url: str, addresses: tuple[str, ...]
) -> None:
    """SSRF protection: what is known here is decided here."""
    assert DeliveryFault.REFUSED is await sender(policy(addresses=addresses), proxy.url).deliver(url, MESSAGE)
    assert [] == proxy.requests


async def test_a_name_that_only_a_network_could_permit_is_refused_where_it_does_not_resolve() -> None:
    """The proxy could connect it to any address."""
    target = callback_url.parse("http://intranet.example:8080/hook")
    with pytest.raises(CallbackUrlRefused):
        await policy("10.0.0.0/8").check_for_proxy(target)
    await policy("10.0.0.0/8", addresses=("10.1.2.3",)).check_for_proxy(target)


async def test_a_callback_without_a_tunnel_is_unreachable(proxy: ConnectProxy) -> None:
    """It is delivered again on its schedule."""
    proxy.response = b"HTTP/1.1 403 Forbidden\r\n\r\n"
    delivered = await sender(policy(), proxy.url).deliver("https://hooks.example/hook", MESSAGE)
    assert (DeliveryFault.UNREACHABLE, ["hooks.example:443"]) == (delivered, proxy.targets)
