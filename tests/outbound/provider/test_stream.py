"""Responses that are passed on while they arrive: back-pressure, redaction over parts, and their ends."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from gateway.content_decoding import Decoder
from gateway.outbound.provider.passthrough_request import PassthroughRequest, PassthroughResponse
from gateway.outbound.provider.redaction import ExposedKeyError, Redaction
from providers.contract import Cause, ProviderFault
from tests.outbound.provider.test_client import KEY, ClientHarness, open_client
from tests.support.fake_upstream import faults
from tests.support.fake_upstream.connection import UpstreamConnection
from tests.support.fake_upstream.faults import ResponseScript
from tests.support.fake_upstream.responses import FakeResponse, reply
from tests.support.fake_upstream.upstream import FakeUpstream
from tests.support.waiting import wait_until

HEAD = FakeResponse(200, (("Content-Type", "text/event-stream"), ("Transfer-Encoding", "chunked"))).head()
MAX_BODY = 10_000_000
GET = PassthroughRequest("GET", "/events", "", (), b"", "rw_client")


def chunk(data: bytes) -> bytes:
    """Encode one chunk."""
    return b"%x\r\n%b\r\n" % (len(data), data)


@asynccontextmanager
async def streaming(
    upstream: FakeUpstream, script: ResponseScript
) -> AsyncIterator[tuple[ClientHarness, PassthroughResponse]]:
    """Send a request that is answered by `script`."""
    upstream.default = script
    async with open_client(upstream.url) as harness:
        deadline = harness.clock.monotonic() + 10
        async with harness.client.send_passthrough(GET, deadline, max_body=MAX_BODY) as response:
            yield harness, response


async def read(response: PassthroughResponse, *, idle_timeout: float = 10.0) -> bytes | None:
    """Read the next part."""
    assert response.stream is not None
    return await response.stream.read(idle_timeout=idle_timeout, interval=0.05, client_connected=lambda: True)


async def read_all(response: PassthroughResponse) -> bytes:
    """Read the stream to its end."""
    parts = []
    while part := await read(response):
        parts.append(part)
    return b"".join(parts)


async def test_each_part_is_there_before_the_next_one_is_sent(upstream: FakeUpstream) -> None:
    read_first = asyncio.Event()

    async def script(connection: UpstreamConnection) -> None:
        await connection.send(HEAD + chunk(b"data: 1\n\n"))
        await read_first.wait()
        await connection.send(chunk(b"data: 2\n\n") + b"0\r\n\r\n")

    async with streaming(upstream, script) as (harness, response):
        assert (200, b"", b"data: 1\n\n") == (response.status, response.body, await read(response))
        read_first.set()
        assert b"data: 2\n\n" == await read_all(response)
    assert {"ok": 1} == harness.results


async def test_what_is_not_read_is_not_received(upstream: FakeUpstream) -> None:
    """The provider waits while the client does not read, and the response is complete afterwards."""
    sent = 0

    async def script(connection: UpstreamConnection) -> None:
        nonlocal sent
        await connection.send(HEAD)
        for _ in range(100):
            await connection.send(chunk(b"x" * 80_000))
            sent += 1
        await connection.send(b"0\r\n\r\n")

    async with streaming(upstream, script) as (_, response):
        first = await read(response) or b""
        stable = -1
        while stable != sent:
            stable = sent
            await asyncio.sleep(0.2)
        assert sent < 100
        assert 8_000_000 == len(first) + len(await read_all(response))


async def test_a_response_that_is_larger_than_the_bound_is_cut(upstream: FakeUpstream) -> None:
    async with streaming(upstream, faults.large_chunked_response(MAX_BODY + 1)) as (_, response):
        with pytest.raises(ProviderFault) as cut:
            await read_all(response)
    assert Cause.TOO_LARGE is cut.value.cause


@pytest.mark.parametrize("end", [faults.fin_after_request, faults.rst_after_request])
async def test_a_response_without_its_end_is_a_fault(upstream: FakeUpstream, end: ResponseScript) -> None:
    async def begin(connection: UpstreamConnection) -> None:
        await connection.send(HEAD + chunk(b"data: 1\n\n"))

    with pytest.raises(ProviderFault) as cut:
        async with streaming(upstream, faults.sequence(begin, faults.delayed(0.2, end))) as (harness, response):
            await read_all(response)
    assert (Cause.INVALID_REPLY, {"invalid_reply": 1}) == (cut.value.cause, harness.results)


async def test_a_silent_stream_is_a_timeout(upstream: FakeUpstream) -> None:
    """The time counts from the last part; the whole response may take any time."""

    async def script(connection: UpstreamConnection) -> None:
        await connection.send(HEAD + chunk(b"data: 1\n\n"))
        await faults.hang(connection)

    async with streaming(upstream, script) as (_, response):
        assert b"data: 1\n\n" == await read(response)
        with pytest.raises(ProviderFault) as silent:
            await read(response, idle_timeout=0.2)
    assert Cause.TIMEOUT is silent.value.cause


async def test_a_client_that_leaves_closes_the_connection(upstream: FakeUpstream) -> None:
    async def script(connection: UpstreamConnection) -> None:
        await connection.send(HEAD + chunk(b"data: 1\n\n"))
        await faults.hang(connection)

    async with streaming(upstream, script) as (_, response):
        assert response.stream is not None
        assert None is await response.stream.read(idle_timeout=9, interval=0.01, client_connected=lambda: False)
    await wait_until(lambda: upstream.connections[0].eof_at is not None)


async def test_a_small_response_without_a_length_is_no_stream(upstream: FakeUpstream) -> None:
    """It is complete when its head is read."""
    script = FakeResponse(200, (("Transfer-Encoding", "chunked"),), chunk(b"{}") + b"0\r\n\r\n")
    async with streaming(upstream, script) as (_, response):
        assert (b"{}", None) == (response.body, response.stream)


ESCAPED = "".join(f"\\u{ord(character):04x}" for character in KEY)


def in_parts(text: bytes, size: int, decoder: Decoder | None = None) -> bytes:
    """Return what is passed on of a text that arrives in parts of `size` bytes."""
    redaction = Redaction(KEY).stream(decoder)
    passed = [redaction.feed(text[at : at + size]) for at in range(0, len(text), size)]
    return b"".join([*passed, redaction.finish()])


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
def test_a_key_is_redacted_over_the_bounds_of_parts(size: int) -> None:
    text = f"data: {KEY}!\n\n{json.dumps(KEY)} {KEY[:9]} {KEY}{KEY[:5]}".encode()
    assert text.replace(KEY.encode(), b"[redacted]") == in_parts(text, size)


def test_a_part_is_passed_on_at_once_unless_it_may_end_with_a_key() -> None:
    redaction = Redaction(KEY).stream(None)
    assert [b"data: 1\n\n", b"data: ", b"pl_no key\n\n"] == [
        redaction.feed(part) for part in (b"data: 1\n\n", b"data: pl_", b"no key\n\n")
    ]


@pytest.mark.parametrize("size", [1, 5, 1000])
@pytest.mark.parametrize("text", [ESCAPED, KEY[:4] + ESCAPED[24:]])
def test_a_key_in_escapes_ends_the_stream(text: str, size: int) -> None:
    with pytest.raises(ExposedKeyError):
        in_parts(f'{{"a":"{text}"}}'.encode(), size)


@pytest.mark.parametrize("size", [1, 5, 1000])
def test_a_compressed_stream_goes_as_it_came_or_ends(size: int) -> None:
    plain = gzip.compress(b"data: 1\n\n" * 50)
    assert plain == in_parts(plain, size, Decoder(10_000))
    with pytest.raises(ExposedKeyError):
        in_parts(gzip.compress(f"data: {KEY}\n\n".encode()), size, Decoder(10_000))


async def test_a_compressed_response_is_returned_as_it_came(upstream: FakeUpstream) -> None:
    body = gzip.compress(b'{"a": 1.10}')
    async with streaming(upstream, reply(200, body, {"Content-Encoding": "gzip"})) as (_, response):
        assert (body, "gzip") == (response.body, dict(response.headers)["content-encoding"])


async def test_a_compressed_response_with_the_key_is_returned_without_both(upstream: FakeUpstream) -> None:
    body = gzip.compress(json.dumps({"key": KEY, "a": 1}).encode())
    async with streaming(upstream, reply(200, body, {"Content-Encoding": "gzip"})) as (_, response):
        assert b'{"key": "[redacted]", "a": 1}' == response.body
        assert "content-encoding" not in dict(response.headers)


@pytest.mark.parametrize("coding", ["br", "gzip, gzip", "zstd"])
async def test_a_coding_that_cannot_be_searched_is_refused(upstream: FakeUpstream, coding: str) -> None:
    with pytest.raises(ProviderFault) as refused:
        async with streaming(upstream, reply(200, b"x", {"Content-Encoding": coding})):
            pass
    assert Cause.INVALID_REPLY is refused.value.cause
