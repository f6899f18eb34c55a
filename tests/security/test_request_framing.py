"""Malformed HTTP is refused, and no byte after it is read as a request (R70, R71)."""

from __future__ import annotations

import pytest

from tests.security.gateway_harness import GatewayHarness, assert_problem
from tests.security.rejections import assert_rejected, send_until_response, split_at
from tests.support.configuration import CLIENT_KEYS
from tests.support.raw_client import RUN, build_get, build_head, build_run, raw_connection, send_request

pytestmark = pytest.mark.asyncio(loop_scope="session")

KEY = CLIENT_KEYS["one"].encode()
FIELDS = b"Host: gateway.test\r\nContent-Type: application/json\r\nAuthorization: Bearer " + KEY
LENGTH = b"Content-Length: %d" % len(RUN)
CHUNKED = b"Transfer-Encoding: chunked"
CHUNKS = b"%x\r\n%b\r\n0\r\n\r\n" % (len(RUN), RUN)


def build_request(*fields: bytes, body: bytes = RUN, line: bytes = b"POST /run HTTP/1.1") -> bytes:
    """Return a run with these additional header lines."""
    return b"\r\n".join([line, FIELDS, *fields, b"", body])


MALFORMED = {
    "length and chunks": build_request(LENGTH, CHUNKED, body=CHUNKS),
    "chunks and length": build_request(CHUNKED, LENGTH, body=CHUNKS),
    "no chunks and length": build_request(LENGTH, CHUNKED, body=b"0\r\n\r\n"),
    "two lengths": build_request(LENGTH, b"Content-Length: 1"),
    "two equal lengths": build_request(LENGTH, LENGTH),
    "list of lengths": build_request(LENGTH + b", %d" % len(RUN)),
    "length +2": build_request(b"Content-Length: +2"),
    "length -1": build_request(b"Content-Length: -1"),
    "length 0x2": build_request(b"Content-Length: 0x2"),
    "length 2_0": build_request(b"Content-Length: 2_0"),
    "length of nothing": build_request(b"Content-Length:"),
    "length of 26 digits": build_request(b"Content-Length: " + b"9" * 26),
    "xchunked": build_request(b"Transfer-Encoding: xchunked", body=CHUNKS),
    "identity": build_request(b"Transfer-Encoding: identity"),
    "chunked, identity": build_request(b"Transfer-Encoding: chunked, identity", body=CHUNKS),
    "chunked twice": build_request(b"Transfer-Encoding: chunked, chunked", body=CHUNKS),
    "two codings": build_request(CHUNKED, b"Transfer-Encoding: identity", body=CHUNKS),
    "vertical tab": build_request(b"Transfer-Encoding:\x0bchunked", body=CHUNKS),
    "space before colon": build_request(b"Transfer-Encoding : chunked", body=CHUNKS),
    "space before colon of length": build_request(b"Content-Length : %d" % len(RUN)),
    "bare LF": build_request(LENGTH).replace(b"\r\n", b"\n"),
    "one bare LF": build_request(b"X-A: b\n" + LENGTH),
    "obs-fold": build_request(b"X-A: b\r\n c", LENGTH),
    "fold behind the first line": build_request(LENGTH, line=b"POST /run HTTP/1.1\r\n X-A: b"),
    "no colon": build_request(b"X-A", LENGTH),
    "no name": build_request(b": b", LENGTH),
    "space in a name": build_request(b"X A: b", LENGTH),
    "NUL in a name": build_request(b"X\0A: b", LENGTH),
    "NUL": build_request(b"X-A: b\0c", LENGTH),
    "CR": build_request(b"X-A: b\rc", LENGTH),
    "no host": build_request(LENGTH).replace(b"Host: gateway.test\r\n", b""),
    "two hosts": build_request(b"Host: gateway.test", LENGTH),
    "host with a path": build_request(LENGTH).replace(b"gateway.test", b"gateway.test/admin"),
    "host with a user": build_request(LENGTH).replace(b"gateway.test", b"user@gateway.test"),
    "two content types": build_request(b"Content-Type: text/plain", LENGTH),
    "long field": build_request(b"X-A: " + b"a" * 9000, LENGTH),
    "many fields": build_request(*(b"X-%d: a" % number for number in range(200)), LENGTH),
    "long target": build_request(LENGTH, line=b"POST /" + b"a" * 9000 + b" HTTP/1.1"),
    "NUL in the target": build_request(LENGTH, line=b"POST /run\0 HTTP/1.1"),
    "high bytes in the target": build_request(LENGTH, line=b"POST /run\xff\xfe HTTP/1.1"),
    "target without slash": build_request(LENGTH, line=b"POST run HTTP/1.1"),
    "method in lower case": build_request(LENGTH, line=b"post /run HTTP/1.1"),
    "tabs for spaces": build_request(LENGTH, line=b"POST\t/run\tHTTP/1.1"),
    "HTTP/1.2": build_request(LENGTH, line=b"POST /run HTTP/1.2"),
    "HTTP/2.0": build_request(LENGTH, line=b"POST /run HTTP/2.0"),
    "HTTP/0.9": b"GET /healthz\r\n\r\n",
    "HTTP/2 by prior knowledge": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "TLS": b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03" + b"\xaa" * 32,
}
"""Each is refused as soon as its head is there."""

BAD_CHUNKS = {
    "negative": CHUNKS.replace(b"%x" % len(RUN), b"-%x" % len(RUN), 1),
    "0x": b"0x" + CHUNKS,
    "plus": b"+" + CHUNKS,
    "space": CHUNKS.replace(b"\r\n", b" \r\n", 1),
    "bare LF": CHUNKS.replace(b"\r\n", b"\n"),
    "LF in an extension": CHUNKS.replace(b"\r\n", b";a\nb\r\n", 1),
    "shorter than its data": b"2\r\n" + CHUNKS.partition(b"\r\n")[2],
    "of 18 digits": b"f" * 18 + b"\r\n" + CHUNKS.partition(b"\r\n")[2],
    "bad trailer": CHUNKS.removesuffix(b"\r\n") + b"X A\0: b\r\n\r\n",
}


TOO_LARGE = {"long field", "many fields", "long target"}


def _code_of(mistake: str) -> str:
    return "header_too_large" if mistake in TOO_LARGE else "malformed_request"


@pytest.mark.parametrize("mistake", MALFORMED)
async def test_a_malformed_request_is_refused(harness: GatewayHarness, mistake: str) -> None:
    """R70: in one piece, followed by a valid run."""
    await assert_rejected(harness, MALFORMED[mistake] + build_run(), code=_code_of(mistake))


@pytest.mark.parametrize("mistake", MALFORMED)
async def test_a_malformed_request_in_pieces_is_refused(harness: GatewayHarness, mistake: str) -> None:
    """R70: in small segments, as on a slow network."""
    data = MALFORMED[mistake]
    await assert_rejected(harness, *split_at(data, 7, len(data) // 2), build_run(), code=_code_of(mistake))


@pytest.mark.parametrize("mistake", BAD_CHUNKS)
async def test_malformed_chunks_are_refused(harness: GatewayHarness, mistake: str) -> None:
    """R70: in one piece with the head."""
    await assert_rejected(harness, build_request(CHUNKED, body=BAD_CHUNKS[mistake]) + build_run())


@pytest.mark.parametrize("mistake", BAD_CHUNKS)
async def test_malformed_chunks_after_the_head_are_refused_at_once(harness: GatewayHarness, mistake: str) -> None:
    """R70: while the run waits for its body; not after the body timeout (408)."""
    async with raw_connection(harness.url) as caller:
        reply = await send_until_response(caller, build_request(CHUNKED, body=b""), BAD_CHUNKS[mistake] + build_run())
    assert_problem(reply, 400, "malformed_request")
    assert [] == harness.upstream.received


async def test_a_body_is_never_taken_for_a_request(harness: GatewayHarness) -> None:
    """R70: bytes framed by Content-Length and chunks are a body, even if they look like a run."""
    inner = build_run()
    chunks = b"%x\r\n%b\r\n0\r\n\r\n" % (len(inner), inner)
    for data in (build_request(b"Content-Length: %d" % len(inner), body=inner), build_request(CHUNKED, body=chunks)):
        async with raw_connection(harness.url) as caller:
            await caller.send(data + build_get("/healthz"))
            assert_problem(await caller.read_response(), 400, "malformed_json")
            assert b'{"status":"alive"}' == (await caller.read_response()).body
    assert [] == harness.upstream.received


async def test_a_trailer_is_not_a_header(harness: GatewayHarness) -> None:
    """R70: a key in a trailer does not authenticate (RFC 9110, 6.5.1)."""
    unkeyed = build_head(headers={"Content-Type": "application/json", "Transfer-Encoding": "chunked"}, client=None)
    body = CHUNKS.removesuffix(b"\r\n") + b"X-API-KEY: " + KEY + b"\r\n\r\n"
    assert_problem(await send_request(harness.url, unkeyed + body), 401, "unauthorized")
    assert [] == harness.upstream.received


async def test_a_malformed_request_behind_a_good_one_costs_it_nothing(harness: GatewayHarness) -> None:
    """R70: the run has its response, then the 400 follows and the connection is closed."""
    async with raw_connection(harness.url) as caller:
        await caller.send(build_run())
        assert 200 == (await caller.read_response()).status
        assert_problem(await send_until_response(caller, MALFORMED["NUL"] + build_run()), 400, "malformed_request")
    assert 1 == len(harness.upstream.received)
