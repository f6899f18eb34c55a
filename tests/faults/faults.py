"""The ways in which the fake upstream misbehaves, one small script each; `then` and `after` join them.

A script is given the connection after a request was read whole. One handed to `Upstream.on_accept` is given it before
anything was read.
"""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Awaitable, Callable
from typing import TypeAlias

from tests.faults.answers import Answer, Raw, chunked, reply
from tests.faults.wire import Wire

Script: TypeAlias = Callable[[Wire], Awaitable[None]]

_SMALL = reply(200, {"result": {"completion": "a small answer"}})


def then(*scripts: Script) -> Script:
    """One after another, on the same request."""

    async def script(wire: Wire) -> None:
        for each in scripts:
            await each(wire)

    return script


def after(seconds: float, script: Script) -> Script:
    """The same, later."""

    async def late(wire: Wire) -> None:
        await asyncio.sleep(seconds)
        await script(wire)

    return late


async def rst_after_request(wire: Wire) -> None:
    """Reset the connection in place of an answer."""
    wire.reset()


async def fin_after_request(wire: Wire) -> None:
    """Close the connection in place of an answer."""
    wire.fin()


async def hang(wire: Wire) -> None:
    """Never answer; ends when the peer leaves."""
    await wire.left.wait()


def rst_on_accept(delay: float = 0.1) -> Script:
    """Reset without having read. The delay lets the peer write first, as it would over a real network."""
    return after(delay, rst_after_request)


async def headers_then_fin(wire: Wire) -> None:
    """Promise 100 bytes, send none, close."""
    await wire.send(Answer(200, (("Content-Type", "application/json"), ("Content-Length", "100"))).head())
    wire.fin()


def truncate(size: int, answer: Answer = _SMALL) -> Script:
    """Send the head and `size` bytes of the body, then close."""
    return then(Raw(answer.head() + answer.body[:size]), fin_after_request)


def chunked_cut_off(answer: Answer = _SMALL) -> Script:
    """Send the answer in chunks, without the last chunk that says it is whole, then close."""
    whole = chunked(answer)
    return truncate(len(whole.body) - len(b"0\r\n\r\n"), whole)


def sliced(size: int, answer: Answer = _SMALL, *, pause: float = 0.0) -> Script:
    """Send the whole answer in pieces of `size` bytes, with a pause of that many seconds after each."""
    data = answer.encode()

    async def script(wire: Wire) -> None:
        for at in range(0, len(data), size):
            await wire.send(data[at : at + size])
            await asyncio.sleep(pause)

    return script


def drip(rate: float = 1.0, *, head_first: bool = True) -> Script:
    """Send an answer without an end at `rate` bytes a second; its head too, unless that comes first."""
    head = Answer(200, (("Content-Type", "application/json"), ("Content-Length", "1000000"))).head()

    async def script(wire: Wire) -> None:
        rest = b"" if head_first else head
        await wire.send(head if head_first else b"")
        for at in range(1_000_000):
            await wire.send(rest[at : at + 1] or b" ")
            await asyncio.sleep(1 / rate)

    return script


def big(size: int) -> Script:
    """Announce and send `size` bytes of one JSON string."""

    async def script(wire: Wire) -> None:
        await wire.send(Answer(200, (("Content-Type", "application/json"), ("Content-Length", str(size)))).head())
        await _flood(wire, size)

    return script


def big_chunked(size: int) -> Script:
    """Send `size` bytes of one JSON string, and do not say beforehand how many they are."""

    async def script(wire: Wire) -> None:
        headers = (("Content-Type", "application/json"), ("Transfer-Encoding", "chunked"))
        await wire.send(Answer(200, headers).head() + b"%x\r\n" % size)
        await _flood(wire, size)
        await wire.send(b"\r\n0\r\n\r\n")

    return script


async def _flood(wire: Wire, size: int) -> None:
    await wire.send(b'"')
    left = size - 2
    block = b"x" * 65_536
    while left:
        await wire.send(block[:left])
        left -= min(left, len(block))
    await wire.send(b'"')


def bomb(size: int) -> Answer:
    """`size` bytes of one JSON string that nobody asked to have compressed, about a thousandth of them on the wire."""
    return reply(200, gzip.compress(b'"' + b"0" * (size - 2) + b'"'), [("Content-Encoding", "gzip")])


def interim(count: int, status: int = 100) -> Script:
    """Send `count` interim answers; a final one may follow (RFC 9110, 15.2)."""

    async def script(wire: Wire) -> None:
        line = Answer(status).encode()
        for at in range(0, count, 1000):
            await wire.send(line * min(1000, count - at))

    return script


def two_lengths(answer: Answer = _SMALL) -> Answer:
    """The answer with a second Content-Length that contradicts the first."""
    return answer.adding(("Content-Length", str(len(answer.body) + 5)))


def long_header(size: int = 100_000, answer: Answer = _SMALL) -> Answer:
    """The answer with one header of `size` bytes."""
    return answer.adding(("X-Long", "a" * size))


def second_answer(answer: Answer, unasked: Answer) -> Script:
    """The answer, and directly behind it one that nobody asked for, which must never reach anybody."""
    return Raw(answer.encode() + unasked.encode())


def close_idle(answer: Answer, delay: Callable[[], float]) -> Script:
    """The answer, and `delay()` seconds later the end of the connection, if no new request came meanwhile."""

    async def script(wire: Wire) -> None:
        await wire.send(answer.encode())
        asyncio.get_running_loop().call_later(delay(), _close_if_idle, wire)

    return script


def _close_if_idle(wire: Wire) -> None:
    if wire.idle:
        wire.fin()


GARBAGE = Raw(b"\x16\x03\x01garbage \xff\xfe in place of a status line\r\n\r\n")
"""Bytes that are not HTTP; the connection stays open."""
