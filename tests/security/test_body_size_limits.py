"""Body size limits: endless and compressed bodies are refused at low cost (R65, R66)."""

from __future__ import annotations

import contextlib
import gzip

import pytest

from tests.security.gateway_harness import GatewayHarness, assert_problem
from tests.support.raw_client import JSON, RUN, build_head, build_run, raw_connection, send_request

pytestmark = pytest.mark.asyncio(loop_scope="session")

MAX_BODY = 1_000_000
MEGABYTE = b"a" * MAX_BODY


async def test_a_large_body_is_refused_by_its_length(harness: GatewayHarness) -> None:
    """R65: Content-Length of 100 MB: 413 before a byte was sent; a body at the limit is accepted."""
    reply = await send_request(harness.url, build_head(headers={**JSON, "Content-Length": "100000000"}))
    assert_problem(reply, 413, "payload_too_large")
    assert "close" == reply.header("Connection")
    padded = RUN.ljust(MAX_BODY)
    assert 200 == (await send_request(harness.url, build_run(padded))).status
    assert_problem(await send_request(harness.url, build_run(padded + b" ")), 413, "payload_too_large")
    assert 1 == len(harness.upstream.received)


async def test_a_large_chunked_body_is_refused_at_the_cap(harness: GatewayHarness) -> None:
    """R65: 413 at most 64 kB after the limit."""
    start = build_head(headers={**JSON, "Transfer-Encoding": "chunked"})
    for size in (MAX_BODY + 1, MAX_BODY + 65_536):
        async with raw_connection(harness.url) as caller:
            await caller.send(start + b"%x\r\n%b\r\n" % (size, b" " * size))
            reply = await caller.read_response()
            assert_problem(reply, 413, "payload_too_large")
            assert "close" == reply.header("Connection")
    whole = RUN.ljust(MAX_BODY)
    assert 200 == (await send_request(harness.url, start + b"%x\r\n%b\r\n0\r\n\r\n" % (MAX_BODY, whole))).status
    assert 1 == len(harness.upstream.received)


@pytest.mark.parametrize(
    ("framing", "block"),
    [
        ({"Content-Length": "100000000"}, MEGABYTE),
        ({"Transfer-Encoding": "chunked"}, b"f4240\r\n%b\r\n" % MEGABYTE),
    ],
    ids=["length", "chunked"],
)
async def test_a_body_without_end_costs_no_memory(
    harness: GatewayHarness, framing: dict[str, str], block: bytes
) -> None:
    """R65: a client that continues to send 100 MB after the response makes memory grow by less than 5 MB."""
    with harness.memory_growth_below(5_000_000):
        async with raw_connection(harness.url) as caller:
            await caller.send(build_head(headers={**JSON, **framing}))
            with contextlib.suppress(ConnectionError):
                for _ in range(100):
                    await caller.send(block)
    assert [] == harness.upstream.received


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd", "identity, gzip", "gzip, gzip", "nonsense"])
async def test_compressed_bodies_are_not_accepted(harness: GatewayHarness, coding: str) -> None:
    """R66: for any coding name, true or not."""
    for body in (RUN, gzip.compress(RUN)):
        reply = await send_request(harness.url, build_run(body, {"Content-Encoding": coding}))
        assert_problem(reply, 415, "unsupported_media_type")
    assert [] == harness.upstream.received


@pytest.mark.parametrize("coding", ["gzip, chunked", "deflate, chunked", "gzip,chunked"])
async def test_bodies_compressed_by_their_framing_are_not_accepted(harness: GatewayHarness, coding: str) -> None:
    """R66: a transfer coding is compression too (RFC 9112, 7.2)."""
    body = gzip.compress(RUN)
    data = build_head(headers={**JSON, "Transfer-Encoding": coding}) + b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    assert_problem(await send_request(harness.url, data), 415, "unsupported_media_type")
    assert [] == harness.upstream.received


async def test_a_bomb_costs_no_memory(harness: GatewayHarness) -> None:
    """R66: 200 MB in 200 kB are not decompressed."""
    bomb = gzip.compress(b'{"workflow":"studio","input":{"a":"' + b"0" * 200_000_000 + b'"}}', 1)
    with harness.memory_growth_below(5_000_000):
        reply = await send_request(harness.url, build_run(bomb, {"Content-Encoding": "gzip"}))
    assert_problem(reply, 415, "unsupported_media_type")
