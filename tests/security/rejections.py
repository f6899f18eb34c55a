"""Requests that must be refused, sent at once or in pieces, with exactly one response."""

from __future__ import annotations

import asyncio
import itertools

from gateway.problems import PROBLEMS
from tests.security.gateway_harness import GatewayHarness, assert_problem
from tests.support.raw_client import RawConnection, RawResponse, raw_connection


async def send_until_response(caller: RawConnection, *pieces: bytes) -> RawResponse:
    """Send the pieces until there is a response; asserts that it is the only one and closes the connection."""
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
    """Split the bytes at these positions."""
    ends = [0, *offsets, len(data)]
    return [data[start:end] for start, end in itertools.pairwise(ends)]


async def assert_rejected(harness: GatewayHarness, *pieces: bytes, code: str = "malformed_request") -> None:
    """Assert a 4xx that closes the connection; neither it nor the valid run after it reaches the upstream."""
    async with raw_connection(harness.url) as caller:
        reply = await send_until_response(caller, *pieces)
    status = PROBLEMS[code].status
    assert_problem(reply, status, code)
    assert "close" == reply.header("Connection")
    assert [] == harness.upstream.received
    assert status == (await harness.access_log("malformed"))[0]["status"]
