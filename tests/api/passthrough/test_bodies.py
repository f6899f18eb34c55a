"""Bodies of passthrough requests and responses: byte for byte but for the key, compressed, streamed, and bounded."""

from __future__ import annotations

import asyncio
import gzip
import json

import aiohttp
import pytest

from providers.contract import JsonValue
from tests.api.passthrough.test_forwarding import (
    CLIENT_SETTINGS,
    KEY,
    LAYER_KEY,
    OK,
    build_json_post,
    build_request,
)
from tests.conftest import StartGateway
from tests.support.configuration import CLIENT_KEYS, PROVIDER_SECRETS
from tests.support.fake_upstream import faults
from tests.support.fake_upstream.connection import UpstreamConnection
from tests.support.fake_upstream.responses import FakeResponse, RawBytes, reply
from tests.support.fake_upstream.upstream import FakeUpstream
from tests.support.process import metric_sum
from tests.support.raw_client import build_head, raw_connection, send_request
from tests.support.waiting import wait_until

pytestmark = pytest.mark.shared_gateway


async def test_bodies_are_bounded(gateway: StartGateway, upstream: FakeUpstream) -> None:
    """By a bound of their own, for every client; without a key in the header a larger body has its length announced."""
    bounds: JsonValue = {"max_body": 1000, "max_passthrough": 5000}
    running = await gateway(None, PROVIDER_SECRETS, server=bounds, **CLIENT_SETTINGS)
    upstream.default = OK

    def post(size: int, client: str | None) -> bytes:
        members = json.dumps({"api_key": CLIENT_KEYS["one"], "a": ""})
        return build_json_post("/log-request", json.loads(members) | {"a": "x" * (size - len(members))}, client)

    for client in ("one", None):
        assert 200 == (await send_request(running.url, post(5000, client))).status
        assert 413 == (await send_request(running.url, post(5001, client))).status
    response = await send_request(running.url, build_request("PUT", "/raw", b"x" * 5001))
    assert (413, "payload_too_large") == (response.status, response.header("Runward-Problem"))
    unannounced = build_head(
        "POST", "/log-request", {"Content-Type": "application/json", "Transfer-Encoding": "chunked"}, client=None
    )
    body = b'{"a":"' + b"x" * 1000 + b'"}'
    chunked_body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    assert 413 == (await send_request(running.url, unannounced + chunked_body)).status
    assert 2 == len(upstream.received)


async def test_a_body_arrives_byte_for_byte_but_for_the_key(gateway: StartGateway, upstream: FakeUpstream) -> None:
    running = await gateway(None, PROVIDER_SECRETS, **CLIENT_SETTINGS)
    upstream.default = reply(200, b'{"a": 1.10, "b":"\\ud83d", "c" : NaN}')
    plain = b'{"a": 1.10, "emoji":"\\ud83d", "a":NaN'
    image = b'{"image":"' + b"A" * 3_000_000 + b'"}'
    for body in (plain, image, b'{"a": 1.10, "api_key" : "%b"}' % CLIENT_KEYS["one"].encode()):
        response = await send_request(
            running.url, build_request("POST", "/log-request", body, Content_Type="application/json")
        )
        assert (200, b'{"a": 1.10, "b":"\\ud83d", "c" : NaN}') == (response.status, response.body)
        assert body.replace(CLIENT_KEYS["one"].encode(), LAYER_KEY.encode()) == upstream.received[-1].body


async def test_compressed_bodies_arrive_as_they_came(gateway: StartGateway, upstream: FakeUpstream) -> None:
    running = await gateway(None, PROVIDER_SECRETS, **CLIENT_SETTINGS)
    body, answer = gzip.compress(b'{"a": 1.10}'), gzip.compress(b'{"b": 1.10}')
    upstream.default = reply(200, answer, {"Content-Encoding": "gzip"})
    fields = {"Content_Type": "application/json", "Content_Encoding": "gzip", "Accept_Encoding": "gzip, br"}
    response = await send_request(running.url, build_request("POST", "/log-request", body, **fields))
    assert (200, answer, "gzip") == (response.status, response.body, response.header("Content-Encoding"))
    [request] = upstream.received
    assert (body, "gzip", "gzip") == (
        request.body,
        request.header("Content-Encoding"),
        request.header("Accept-Encoding"),
    )
    with_key = gzip.compress(json.dumps({"api_key": CLIENT_KEYS["one"]}).encode())
    for client in ("one", None):
        response = await send_request(running.url, build_request("POST", "/log-request", with_key, client, **fields))
        request = upstream.received[-1]
        assert (200, json.dumps({"api_key": LAYER_KEY}).encode()) == (response.status, request.body)
        assert None is request.header("Content-Encoding")
    count = len(upstream.received)
    hidden = gzip.compress(json.dumps({"text": CLIENT_KEYS["one"]}).encode())
    for refused, coding, status in ((hidden, "gzip", 422), (b"{}", "gzip", 422), (b"{}", "br", 415)):
        request_bytes = build_request("POST", "/log-request", refused, **(fields | {"Content_Encoding": coding}))
        assert status == (await send_request(running.url, request_bytes)).status
    assert count == len(upstream.received)


EVENTS = FakeResponse(200, (("Content-Type", "text/event-stream"), ("Transfer-Encoding", "chunked"))).head()
EVENT = b"9\r\ndata: 1\n\n\r\n"


async def test_a_stream_is_passed_on_while_it_arrives(gateway: StartGateway, upstream: FakeUpstream) -> None:
    running = await gateway(None, PROVIDER_SECRETS, **CLIENT_SETTINGS)
    read_first = asyncio.Event()

    async def script(connection: UpstreamConnection) -> None:
        await connection.send(EVENTS + EVENT)
        await read_first.wait()
        await connection.send(EVENT.replace(b"1", b"2") + b"0\r\n\r\n")

    upstream.default = script
    url = f"{running.url}/prompt-templates/a"
    async with aiohttp.ClientSession(headers={"X-API-KEY": KEY}) as session, session.get(url) as response:
        assert (200, "text/event-stream", "no") == (
            response.status,
            response.headers["Content-Type"],
            response.headers["X-Accel-Buffering"],
        )
        assert b"data: 1\n\n" == await response.content.readany()
        assert 1 == metric_sum(await running.metrics(), "runward_requests_in_flight")
        read_first.set()
        assert b"data: 2\n\n" == await response.content.read()
    samples = await running.metrics()
    assert 1 == metric_sum(samples, "runward_upstream_calls_total", operation="passthrough", result="ok")


async def test_a_stream_that_is_cut_is_not_complete_for_the_client(
    gateway: StartGateway, upstream: FakeUpstream
) -> None:
    running = await gateway(None, PROVIDER_SECRETS, **CLIENT_SETTINGS)

    async def script(connection: UpstreamConnection) -> None:
        await connection.send(EVENTS + EVENT)
        await asyncio.sleep(0.1)
        connection.reset()

    upstream.default = script
    async with raw_connection(running.url) as caller:
        await caller.send(build_request("GET", "/prompt-templates/a"))
        received = await caller.read_to_end()
    assert received.endswith(EVENT)
    assert [] == running.logs("internal_error")


async def test_a_client_that_leaves_a_stream_ends_it_at_the_provider(
    gateway: StartGateway, upstream: FakeUpstream
) -> None:
    running = await gateway(None, PROVIDER_SECRETS, **CLIENT_SETTINGS)
    upstream.default = faults.sequence(RawBytes(EVENTS + EVENT), faults.hang)
    url = f"{running.url}/prompt-templates/a"
    async with aiohttp.ClientSession(headers={"X-API-KEY": KEY}) as session, session.get(url) as response:
        assert b"data: 1\n\n" == await response.content.readany()
    await wait_until(lambda: upstream.connections[-1].eof_at is not None)
    await wait_until(lambda: running.logs("request") != [])
    assert [] == running.logs("internal_error")
