"""Faults of the fake upstream, one script each; `sequence` and `delayed` combine them.

A script gets the connection after a complete request was read; a script of `FakeUpstream.on_accept` before anything
was read.
"""

from __future__ import annotations

import asyncio
import functools
import gzip
import struct
import zlib
from collections.abc import Awaitable, Callable
from typing import TypeAlias

from tests.support.fake_upstream.connection import UpstreamConnection
from tests.support.fake_upstream.responses import FakeResponse, RawBytes, chunked, reply

ResponseScript: TypeAlias = Callable[[UpstreamConnection], Awaitable[None]]

_SMALL_RESPONSE = reply(200, {"result": {"completion": "a small answer"}})


def sequence(*scripts: ResponseScript) -> ResponseScript:
    """Run scripts in sequence on the same request."""

    async def script(connection: UpstreamConnection) -> None:
        for each in scripts:
            await each(connection)

    return script


def delayed(seconds: float, script: ResponseScript) -> ResponseScript:
    """Run a script after a delay."""

    async def late(connection: UpstreamConnection) -> None:
        await asyncio.sleep(seconds)
        await script(connection)

    return late


async def rst_after_request(connection: UpstreamConnection) -> None:
    """Reset the connection instead of responding."""
    connection.reset()


async def fin_after_request(connection: UpstreamConnection) -> None:
    """Close the connection instead of responding."""
    connection.fin()


async def hang(connection: UpstreamConnection) -> None:
    """Never respond; ends when the peer disconnects."""
    await connection.peer_closed.wait()


def rst_on_accept(delay: float = 0.1) -> ResponseScript:
    """Reset without reading. The delay lets the peer write first, as over a real network."""
    return delayed(delay, rst_after_request)


async def headers_then_fin(connection: UpstreamConnection) -> None:
    """Announce 100 bytes, send none, close."""
    await connection.send(FakeResponse(200, (("Content-Type", "application/json"), ("Content-Length", "100"))).head())
    connection.fin()


def truncate(size: int, answer: FakeResponse = _SMALL_RESPONSE) -> ResponseScript:
    """Send the head and `size` bytes of the body, then close."""
    return sequence(RawBytes(answer.head() + answer.body[:size]), fin_after_request)


def chunked_cut_off(answer: FakeResponse = _SMALL_RESPONSE) -> ResponseScript:
    """Send the response in chunks without the last chunk, then close."""
    whole = chunked(answer)
    return truncate(len(whole.body) - len(b"0\r\n\r\n"), whole)


def sliced(size: int, answer: FakeResponse = _SMALL_RESPONSE, *, pause: float = 0.0) -> ResponseScript:
    """Send the response in pieces of `size` bytes, with a pause of that many seconds after each."""
    data = answer.encode()

    async def script(connection: UpstreamConnection) -> None:
        for at in range(0, len(data), size):
            await connection.send(data[at : at + size])
            await asyncio.sleep(pause)

    return script


def drip(rate: float = 1.0, *, head_first: bool = True) -> ResponseScript:
    """Send an endless response at `rate` bytes per second, including its head unless that is sent first."""
    head = FakeResponse(200, (("Content-Type", "application/json"), ("Content-Length", "1000000"))).head()

    async def script(connection: UpstreamConnection) -> None:
        rest = b"" if head_first else head
        await connection.send(head if head_first else b"")
        for at in range(1_000_000):
            await connection.send(rest[at : at + 1] or b" ")
            await asyncio.sleep(1 / rate)

    return script


def large_response(size: int) -> ResponseScript:
    """Announce and send `size` bytes of one JSON string."""

    async def script(connection: UpstreamConnection) -> None:
        await connection.send(
            FakeResponse(200, (("Content-Type", "application/json"), ("Content-Length", str(size)))).head()
        )
        await _flood(connection, size)

    return script


def large_chunked_response(size: int) -> ResponseScript:
    """Send `size` bytes of one JSON string in chunks, without a Content-Length."""

    async def script(connection: UpstreamConnection) -> None:
        headers = (("Content-Type", "application/json"), ("Transfer-Encoding", "chunked"))
        await connection.send(FakeResponse(200, headers).head() + b"%x\r\n" % size)
        await _flood(connection, size)
        await connection.send(b"\r\n0\r\n\r\n")

    return script


async def _flood(connection: UpstreamConnection, size: int) -> None:
    await connection.send(b'"')
    left = size - 2
    block = b"x" * 65_536
    while left:
        await connection.send(block[:left])
        left -= min(left, len(block))
    await connection.send(b'"')


def compression_bomb(size: int) -> FakeResponse:
    """Return `size` bytes of a JSON string with unrequested gzip coding (about a thousandth on the wire)."""
    return reply(200, _compressed_string(size), [("Content-Encoding", "gzip")])


def _compressed_string(size: int) -> bytes:
    """Return a gzip file (RFC 1952) of one member; a block is compressed once and repeated, as a flush ends it."""
    block = b"0" * 1_000_000
    count, rest = divmod(size - 2, len(block))
    pieces = [b'"', *[block] * count, b"0" * rest + b'"']
    checksum = functools.reduce(lambda total, piece: zlib.crc32(piece, total), pieces, 0)
    compressor = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    start, repeated = (compressor.compress(piece) + compressor.flush(zlib.Z_FULL_FLUSH) for piece in (b'"', block))
    end = compressor.compress(pieces[-1]) + compressor.flush()
    header = gzip.compress(b"", mtime=0)[:10]
    return header + start + repeated * count + end + struct.pack("<2L", checksum, size)


def interim_responses(count: int, status: int = 100) -> ResponseScript:
    """Send `count` interim responses; a final one may follow (RFC 9110, 15.2)."""

    async def script(connection: UpstreamConnection) -> None:
        line = FakeResponse(status).encode()
        for at in range(0, count, 1000):
            await connection.send(line * min(1000, count - at))

    return script


def two_lengths(answer: FakeResponse = _SMALL_RESPONSE) -> FakeResponse:
    """Return the response with a second, contradicting Content-Length."""
    return answer.with_headers(("Content-Length", str(len(answer.body) + 5)))


def long_header(size: int = 100_000, answer: FakeResponse = _SMALL_RESPONSE) -> FakeResponse:
    """Return the response with one header of `size` bytes."""
    return answer.with_headers(("X-Long", "a" * size))


def extra_response(answer: FakeResponse, unasked: FakeResponse) -> ResponseScript:
    """Send the response and directly after it an unsolicited one."""
    return RawBytes(answer.encode() + unasked.encode())


def close_idle(answer: FakeResponse, delay: Callable[[], float]) -> ResponseScript:
    """Send the response, and close the connection after `delay()` seconds unless a new request arrived."""

    async def script(connection: UpstreamConnection) -> None:
        await connection.send(answer.encode())
        asyncio.get_running_loop().call_later(delay(), _close_if_idle, connection)

    return script


def _close_if_idle(connection: UpstreamConnection) -> None:
    if connection.idle:
        connection.fin()


GARBAGE = RawBytes(b"\x16\x03\x01garbage \xff\xfe in place of a status line\r\n\r\n")
"""Bytes that are not HTTP; the connection stays open."""
