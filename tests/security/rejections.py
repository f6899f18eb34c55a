"""Sends requests that must be refused, in pieces or at once, and checks that exactly one response follows."""

from __future__ import annotations

import asyncio
import itertools

from tests.security.gateway_harness import GatewayHarness, assert_problem
from tests.support.raw_client import RawConnection, RawResponse, raw_connection


async def send_until_response(caller: RawConnection, *pieces: bytes) -> RawResponse:
    """Send the pieces one by one, until there is an answer; it is the only one, and the connection ends with it."""
    answer = asyncio.create_task(caller.read_response())
    for piece in pieces:
        if answer.done():
            break
        await caller.send(piece)
        await asyncio.sleep(0.01)
    reply = await answer
    await caller.wait_closed()
    return reply


def split_at(data: bytes, *offsets: int) -> list[bytes]:
    """The pieces between these places."""
    ends = [0, *offsets, len(data)]
    return [data[start:end] for start, end in itertools.pairwise(ends)]


async def assert_rejected(harness: GatewayHarness, *pieces: bytes) -> None:
    """The request is a 400 that closes the connection; neither it nor the good run behind it reaches the upstream."""
    async with raw_connection(harness.url) as caller:
        reply = await send_until_response(caller, *pieces)
    assert_problem(reply, 400, "malformed_request")
    assert "close" == reply.header("Connection")
    assert [] == harness.upstream.received
    assert 400 == (await harness.access_log("malformed"))[0]["status"]
