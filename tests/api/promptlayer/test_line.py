"""Connections of those who mean no good: strangers, clients that are gone, and clients that ask and do not listen."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import aiohttp
import pytest

from tests.api.listening import until
from tests.api.promptlayer.waiting import Waiting, ended, say, told, waiting

CHANNEL = "workflow_updates:7"
MASK = b"\x00\x00\x00\x00"  # it changes nothing


@pytest.fixture
async def here() -> AsyncIterator[Waiting]:
    """A server, and nothing going on."""
    async with waiting() as running:
        yield running


async def test_strangers_take_their_seats_from_each_other() -> None:
    """R33: whoever has not said who it is makes room for whoever comes; clients stay, and are let in."""
    async with waiting(most=3) as here:
        client = await here.listen(CHANNEL)
        strangers = [await here.dial() for _ in range(2)]
        other = await here.listen(CHANNEL, "two")
        assert aiohttp.WSMsgType.CLOSED == (await strangers[0].receive(timeout=10)).type
        assert [False] * 3 == [socket.closed for socket in (client, strangers[1], other)]
        assert 3 == len(here.realtime.lines)
        await here.begin(7, client="two")
        await here.end(7, {"answer": 42}, client="two")
        assert CHANNEL == (await told(other))[0]


async def test_a_crowd_of_strangers_is_never_larger_than_the_seats() -> None:
    """R33: its memory is bounded at every moment."""
    async with waiting(most=3) as here:
        crowd = [await here.dial() for _ in range(12)]
        assert (12, 3) == (len(crowd), len(here.realtime.lines))
        await (await here.connect(await here.ticket(CHANNEL))).close()


async def test_a_client_that_went_is_told_nothing_more(here: Waiting) -> None:
    """R77: a reload that takes a client away takes what its connections wait for, too."""
    socket = await here.listen(CHANNEL)
    await here.begin(7)
    here.clients.discard("one")
    await here.end(7, {"answer": 42})
    assert 3503 == await ended(socket)


async def test_a_client_that_went_does_not_stay_connected(here: Waiting) -> None:
    """R77: it has to go with the next ping, whether it waits for anything or not."""
    socket = await here.connect(await here.ticket(CHANNEL))
    here.clients.discard("one")
    await here.clock.run_for(11)
    assert 3503 == await ended(socket)


async def test_whoever_subscribes_again_and_again_has_to_go(here: Waiting) -> None:
    """A result is told with each subscription: four of them in the time of a ping are enough for anybody."""
    socket = await here.listen(CHANNEL)
    for number in range(3):
        await say(socket, {"id": 3, "unsubscribe": {"channel": CHANNEL}})
        assert {"id": 4 + number, "subscribe": {}} == await say(
            socket, {"id": 4 + number, "subscribe": {"channel": CHANNEL}}
        )
    await say(socket, {"id": 3, "unsubscribe": {"channel": CHANNEL}})
    await socket.send_json({"id": 9, "subscribe": {"channel": CHANNEL}})
    assert 3501 == await ended(socket)


async def test_a_client_that_does_not_listen_costs_little(here: Waiting) -> None:
    """R33: however often it asks for a large result within the frames that it may send, no more than a few wait."""
    await here.begin(7)
    await here.end(7, "x" * 250_000)
    socket = await here.connect(await here.ticket(CHANNEL))
    connection = socket._response.connection
    assert connection is not None
    assert connection.transport is not None
    line, most = next(iter(here.realtime.lines)), 0
    served = here.realtime.lines[line]
    assert served is not None
    connection.transport.pause_reading()
    turn = [{"id": 2, "subscribe": {"channel": CHANNEL}}, {"id": 3, "unsubscribe": {"channel": CHANNEL}}]
    for _ in range(30):
        for command in turn:
            await socket.send_str(json.dumps(command))
            await asyncio.sleep(0.001)
        most = max(most, served.get_write_buffer_size())
    assert most < 1_500_000, most


@pytest.mark.parametrize(
    "frame",
    [
        b"\xc1\x80" + MASK,  # compressed, which nobody agreed to
        b"\xa1\x80" + MASK,  # another reserved bit
        b"\x80\x80" + MASK,  # the rest of nothing
        b"\x89\xfe\x00\x7e" + MASK + b"x" * 126,  # a ping that is too long
        b"\x09\x80" + MASK,  # a ping in pieces
        b"\x81\xff\x7f" + b"\xff" * 7 + MASK,  # so many bytes are promised
        b"\x81\x82" + MASK + b"\xff\xfe",  # no UTF-8
        b"\x01\xfe\x40\x00" + MASK + b"x" * 16_384 + b"\x80\x81" + MASK + b"x",  # too long, in pieces
    ],
)
async def test_frames_that_break_the_protocol_end_it(here: Waiting, frame: bytes) -> None:
    """R33: among them a bomb of compressed bytes, which is not even unpacked."""
    socket = await here.dial()
    connection = socket._response.connection
    assert connection is not None
    assert connection.transport is not None
    connection.transport.write(frame)
    assert (await socket.receive(timeout=10)).type in {aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED}
    await until(lambda: not here.realtime.lines)
    assert [] == [line["event"] for line in here.capture.entries if line["log_level"] == "error"]


async def test_a_compression_that_a_client_offers_is_not_taken_up(here: Waiting) -> None:
    socket = await here.session.ws_connect(here.url + "/connection/websocket", compress=15)
    assert 0 == socket.compress
    assert "Sec-WebSocket-Extensions" not in socket._response.headers
