"""Encoding of an adapter's call as an HTTP request: methods, query, header fields, bodies."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from pydantic import SecretStr

from gateway.observability.metrics import Metrics
from gateway.outbound.provider.client import ProviderClient
from gateway.outbound.provider.endpoint import ProviderEndpoint
from providers.contract import Call, KeyHeader
from tests.support.clock import ManualClock
from tests.support.fake_upstream.connection import ReceivedRequest
from tests.support.fake_upstream.responses import reply
from tests.support.fake_upstream.upstream import FakeUpstream


@pytest.fixture
async def client(upstream: FakeUpstream) -> AsyncIterator[ProviderClient]:
    """Client whose calls may set X-Tenant-Id."""
    upstream.default = reply(200, {})
    endpoint = ProviderEndpoint(
        provider="p",
        base_url=upstream.url,
        key_header=KeyHeader("X-Key"),
        key=SecretStr("provider_key_0123456789"),
        request_headers=frozenset({"x-tenant-id"}),
    )
    client = ProviderClient(endpoint, clock=ManualClock(), metrics=Metrics())
    yield client
    await client.close()


async def send(client: ProviderClient, upstream: FakeUpstream, method: Any = "POST", **fields: Any) -> ReceivedRequest:
    """Send a call to /x; return the request that arrived."""
    await client.send(Call(method, fields.pop("path", "/x"), "call", safe=True, **fields), 1e9)
    return upstream.received[-1]


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
async def test_a_call_has_any_method_and_a_json_body(
    client: ProviderClient, upstream: FakeUpstream, method: str
) -> None:
    request = await send(client, upstream, method, json={"a": 1})
    assert method == request.method
    assert b'{"a":1}' == request.body
    assert "application/json" == request.header("content-type")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
async def test_a_call_without_a_body_has_length_zero(
    client: ProviderClient, upstream: FakeUpstream, method: str
) -> None:
    request = await send(client, upstream, method)
    assert "0" == request.header("content-length")
    assert None is request.header("content-type")


async def test_a_form_is_encoded(client: ProviderClient, upstream: FakeUpstream) -> None:
    request = await send(client, upstream, form={"prompt": "a b&c=ü", "n": "1"})
    assert b"prompt=a+b%26c%3D%C3%BC&n=1" == request.body
    assert "application/x-www-form-urlencoded" == request.header("content-type")


@pytest.mark.parametrize(
    ("path", "target"), [("/x", "/x?q=a%20b%26c&q=%0D%0A"), ("/x?a=1", "/x?a=1&q=a%20b%26c&q=%0D%0A")]
)
async def test_a_query_is_encoded_and_appended(
    client: ProviderClient, upstream: FakeUpstream, path: str, target: str
) -> None:
    request = await send(client, upstream, "GET", path=path, query=(("q", "a b&c"), ("q", "\r\n")))
    assert target == request.target
    assert b"" == request.body


async def test_a_declared_header_is_sent(client: ProviderClient, upstream: FakeUpstream) -> None:
    request = await send(client, upstream, "GET", headers={"X-Tenant-Id": "tenant 7"})
    assert "tenant 7" == request.header("x-tenant-id")


@pytest.mark.parametrize(
    "headers",
    [{"X-Other": "1"}, {"X-Key": "1"}, {"X-Tenant-Id": "a\r\nX-Other: 1"}, {"X-Tenant-Id": "ü"}, {"X-Tenant-Id": ""}],
)
async def test_any_other_header_stops_the_call_before_it_is_sent(
    client: ProviderClient, upstream: FakeUpstream, headers: dict[str, str]
) -> None:
    with pytest.raises(ValueError, match="header"):
        await send(client, upstream, headers=headers)
    assert [] == upstream.received


async def test_a_call_with_two_bodies_is_not_sent(client: ProviderClient, upstream: FakeUpstream) -> None:
    with pytest.raises(ValueError, match="two bodies"):
        await send(client, upstream, json={}, form={"a": "1"})
    assert [] == upstream.received
