"""Bodies without end, compressed or not, are refused before they cost anything (R65, R66)."""

from __future__ import annotations

import contextlib
import gzip

import pytest

from tests.edge.raw import JSON, RUN, ask, calling, head, post
from tests.edge.world import World, expect_problem

pytestmark = pytest.mark.asyncio(loop_scope="session")

CAP = 1_000_000
MEGABYTE = b"a" * CAP


async def test_a_large_body_is_refused_by_its_length(world: World) -> None:
    """R65: 100 MB by Content-Length: 413 before one byte of it was sent; the limit itself is still fine."""
    reply = await ask(world.url, head(headers={**JSON, "Content-Length": "100000000"}))
    expect_problem(reply, 413, "payload_too_large")
    assert "close" == reply.header("Connection")
    padded = RUN.ljust(CAP)
    assert 200 == (await ask(world.url, post(padded))).status
    expect_problem(await ask(world.url, post(padded + b" ")), 413, "payload_too_large")
    assert 1 == len(world.upstream.log)


async def test_a_large_chunked_body_is_refused_at_the_cap(world: World) -> None:
    """R65: 413 after the cap and 64 kB at the latest: nothing more was sent."""
    start = head(headers={**JSON, "Transfer-Encoding": "chunked"})
    for size in (CAP + 1, CAP + 65_536):
        async with calling(world.url) as caller:
            await caller.send(start + b"%x\r\n%b\r\n" % (size, b" " * size))
            reply = await caller.reply()
            expect_problem(reply, 413, "payload_too_large")
            assert "close" == reply.header("Connection")
    whole = RUN.ljust(CAP)
    assert 200 == (await ask(world.url, start + b"%x\r\n%b\r\n0\r\n\r\n" % (CAP, whole))).status
    assert 1 == len(world.upstream.log)


@pytest.mark.parametrize(
    ("framing", "block"),
    [
        ({"Content-Length": "100000000"}, MEGABYTE),
        ({"Transfer-Encoding": "chunked"}, b"f4240\r\n%b\r\n" % MEGABYTE),
    ],
    ids=["length", "chunked"],
)
async def test_a_body_without_end_costs_no_memory(world: World, framing: dict[str, str], block: bytes) -> None:
    """R65: whoever goes on sending up to 100 MB whatever is answered makes memory grow by less than 5 MB."""
    with world.growth_below(5_000_000):
        async with calling(world.url) as caller:
            await caller.send(head(headers={**JSON, **framing}))
            with contextlib.suppress(ConnectionError):
                for _ in range(100):
                    await caller.send(block)
    assert [] == world.upstream.log


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd", "identity", "gzip, gzip", "nonsense"])
async def test_compressed_bodies_are_not_accepted(world: World, coding: str) -> None:
    """R66: whatever their coding is called, and whether or not it is true."""
    for body in (RUN, gzip.compress(RUN)):
        reply = await ask(world.url, post(body, {"Content-Encoding": coding}))
        expect_problem(reply, 415, "unsupported_media_type")
    assert [] == world.upstream.log


@pytest.mark.parametrize("coding", ["gzip, chunked", "deflate, chunked", "gzip,chunked"])
async def test_bodies_compressed_by_their_framing_are_not_accepted(world: World, coding: str) -> None:
    """R66: a transfer coding is compression too (RFC 9112, 7.2)."""
    body = gzip.compress(RUN)
    data = head(headers={**JSON, "Transfer-Encoding": coding}) + b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    expect_problem(await ask(world.url, data), 415, "unsupported_media_type")
    assert [] == world.upstream.log


async def test_a_bomb_costs_no_memory(world: World) -> None:
    """R66: 200 MB in 200 kB are never opened."""
    bomb = gzip.compress(b'{"workflow":"studio","input":{"a":"' + b"0" * 200_000_000 + b'"}}', 1)
    with world.growth_below(5_000_000):
        reply = await ask(world.url, post(bomb, {"Content-Encoding": "gzip"}))
    expect_problem(reply, 415, "unsupported_media_type")
