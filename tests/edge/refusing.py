"""Sends what must be refused, in pieces or at once, and sees that it is: with one answer, and nothing behind it."""

from __future__ import annotations

import asyncio
import itertools

from tests.edge.raw import Caller, Reply, calling
from tests.edge.world import World, expect_problem


async def only_answer(caller: Caller, *pieces: bytes) -> Reply:
    """Send the pieces one by one, until there is an answer; it is the only one, and the connection ends with it."""
    answer = asyncio.create_task(caller.reply())
    for piece in pieces:
        if answer.done():
            break
        await caller.send(piece)
        await asyncio.sleep(0.01)
    reply = await answer
    await caller.closed()
    return reply


def cut(data: bytes, *places: int) -> list[bytes]:
    """The pieces between these places."""
    ends = [0, *places, len(data)]
    return [data[start:end] for start, end in itertools.pairwise(ends)]


async def refused(world: World, *pieces: bytes) -> None:
    """The request is a 400 that closes the connection; neither it nor the good run behind it reaches the upstream."""
    async with calling(world.url) as caller:
        reply = await only_answer(caller, *pieces)
    expect_problem(reply, 400, "malformed_request")
    assert "close" == reply.header("Connection")
    assert [] == world.upstream.log
    assert 400 == (await world.lines("malformed"))[0]["status"]
