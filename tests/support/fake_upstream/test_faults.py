"""Faults of the fake upstream, as seen on the wire."""

from __future__ import annotations

import asyncio
import gzip
import json
import zlib
from typing import TYPE_CHECKING

import aiohttp
import pytest

from tests.support.fake_upstream import faults
from tests.support.fake_upstream.responses import chunked, redirect, reply
from tests.support.fake_upstream.upstream import FakeUpstream
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.support.fake_upstream.faults import ResponseScript

RUN = b"POST /run HTTP/1.1\r\nContent-Length: 0\r\n\r\n"
RESPONSE = reply(200, {"hello": "world"})


@pytest.fixture
async def fake() -> AsyncIterator[FakeUpstream]:
    """Fake upstream without scripts."""
    async with FakeUpstream() as running:
        yield running


async def observe(fake: FakeUpstream, script: ResponseScript, seconds: float = 0.2) -> tuple[bytes, str]:
    """Return the bytes that a peer receives from a script, and the end: "fin", "rst" or "open"."""
    fake.default = script
    host, _, port = fake.url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(RUN)
    received, end = b"", "fin"
    try:
        async with asyncio.timeout(seconds):
            while part := await reader.read(65_536):
                received += part
    except TimeoutError:
        end = "open"
    except ConnectionResetError:
        end = "rst"
    finally:
        writer.transport.abort()
    return received, end


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        (faults.rst_after_request, (b"", "rst")),
        (faults.fin_after_request, (b"", "fin")),
        (faults.hang, (b"", "open")),
        (faults.truncate(5, RESPONSE), (RESPONSE.head() + RESPONSE.body[:5], "fin")),
        (faults.sliced(3, RESPONSE), (RESPONSE.encode(), "open")),
        (faults.extra_response(RESPONSE, reply(404)), (RESPONSE.encode() + reply(404).encode(), "open")),
        (
            faults.sequence(faults.interim_responses(2), RESPONSE),
            (b"HTTP/1.1 100 Continue\r\n\r\n" * 2 + RESPONSE.encode(), "open"),
        ),
        (faults.delayed(0.01, RESPONSE), (RESPONSE.encode(), "open")),
        (faults.close_idle(RESPONSE, lambda: 0.05), (RESPONSE.encode(), "fin")),
    ],
    ids=["rst", "fin", "hang", "truncate", "sliced", "second_answer", "interim", "after", "close_idle"],
)
async def test_bytes_and_end(fake: FakeUpstream, script: ResponseScript, expected: tuple[bytes, str]) -> None:
    """The bytes, and the FIN, RST or open connection after them."""
    assert expected == await observe(fake, script)


async def test_headers_then_fin_promises_more_than_it_sends(fake: FakeUpstream) -> None:
    received, end = await observe(fake, faults.headers_then_fin)
    assert (True, True, "fin") == (b"Content-Length: 100" in received, received.endswith(b"\r\n\r\n"), end)


async def test_a_cut_off_chunked_answer_lacks_only_its_last_chunk(fake: FakeUpstream) -> None:
    whole, _ = await observe(fake, chunked(RESPONSE))
    cut, end = await observe(fake, faults.chunked_cut_off(RESPONSE))
    assert (whole, "fin") == (cut + b"0\r\n\r\n", end)


async def test_drip_has_no_end(fake: FakeUpstream) -> None:
    """A few bytes within 0.2 s, and the connection stays open."""
    received, end = await observe(fake, faults.drip(rate=50))
    body = received.partition(b"\r\n\r\n")[2]
    assert (True, "open") == (2 <= len(body) <= 12, end)


async def test_drip_may_not_even_finish_its_head(fake: FakeUpstream) -> None:
    received, _ = await observe(fake, faults.drip(rate=50, head_first=False))
    assert b"HTTP/1.1 200 OK\r\n".startswith(received)
    assert received


@pytest.mark.parametrize("script", [faults.large_response(300_001), faults.large_chunked_response(300_001)])
async def test_big_answers_are_json_of_that_size(
    fake: FakeUpstream, session: aiohttp.ClientSession, script: ResponseScript
) -> None:
    fake.default = script
    async with session.get(fake.url) as answer:
        body = await answer.read()
    assert (300_001, 299_999) == (len(body), len(json.loads(body)))


@pytest.mark.parametrize("size", [2, 3, 1_000_002, 5_000_000])
async def test_a_bomb_is_small_until_it_is_opened(size: int) -> None:
    bomb = faults.compression_bomb(size)
    assert len(bomb.body) < 10_000
    assert b'"' + b"0" * (size - 2) + b'"' == gzip.decompress(bomb.body)
    decompressor = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
    assert size == len(decompressor.decompress(bomb.body))
    assert (b"", True) == (decompressor.unused_data, decompressor.eof)  # one member: readers of the first read it all


@pytest.mark.parametrize(
    ("script", "error"),
    [
        (faults.GARBAGE, aiohttp.ClientResponseError),
        (faults.two_lengths(), aiohttp.ClientResponseError),
        (faults.long_header(), aiohttp.ClientResponseError),
        (faults.headers_then_fin, aiohttp.ClientPayloadError),
        (faults.chunked_cut_off(), aiohttp.ClientPayloadError),
        (faults.rst_after_request, aiohttp.ClientOSError),
        (faults.fin_after_request, aiohttp.ServerDisconnectedError),
    ],
)
async def test_an_http_client_sees_a_fault(
    fake: FakeUpstream, session: aiohttp.ClientSession, script: ResponseScript, error: type[Exception]
) -> None:
    """An independent client reports the corresponding error."""
    fake.default = script
    with pytest.raises(error):
        async with session.post(fake.url, data=b"") as answer:
            await answer.read()


@pytest.mark.parametrize("status", [101, 204, 500, 999])
async def test_any_status_can_be_sent(fake: FakeUpstream, status: int) -> None:
    received, _ = await observe(fake, reply(status, b""))
    assert received.startswith(b"HTTP/1.1 %d " % status)


async def test_a_redirect_names_another_place(fake: FakeUpstream, session: aiohttp.ClientSession) -> None:
    fake.default = redirect("http://127.0.0.1:1/", 307)
    async with session.post(fake.url, allow_redirects=False) as answer:
        assert (307, "http://127.0.0.1:1/") == (answer.status, answer.headers["Location"])


async def test_a_flood_stops_when_the_peer_leaves(fake: FakeUpstream) -> None:
    """Sending 200 GB ends with the connection."""
    await observe(fake, faults.large_response(200_000_000_000), seconds=0.05)
    await wait_until(lambda: fake.open_connections == 0)


async def test_a_connection_with_a_new_request_is_not_closed_as_idle(fake: FakeUpstream) -> None:
    """A scheduled close does not affect the second request."""
    fake.script("POST", "/run", [faults.close_idle(RESPONSE, lambda: 0.05)])
    fake.default = faults.delayed(0.1, reply(204, b""))
    host, _, port = fake.url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(RUN + RUN)
    received = await reader.readuntil(b"No Content\r\n")
    writer.transport.abort()
    assert received.startswith(RESPONSE.encode() + b"HTTP/1.1 204")
