"""Hostile connections: unauthenticated, unresponsive, flooding, and not reading."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import aiohttp
import pytest

from tests.api.promptlayer.realtime_harness import (
    RealtimeHarness,
    realtime_server,
    receive_message,
    send_command,
    wait_closed,
)
from tests.support.waiting import wait_until

CHANNEL = "workflow_updates:7"
MASK = b"\x00\x00\x00\x00"  # it changes nothing


@pytest.fixture
async def harness() -> AsyncIterator[RealtimeHarness]:
    """Server without runs."""
    async with realtime_server() as running:
        yield running


async def test_an_unauthenticated_connection_is_dropped_for_a_new_one() -> None:
    """R33: the oldest unauthenticated connection makes room for a new one; authenticated clients stay."""
    async with realtime_server(max_connections=3) as harness:
        client = await harness.subscribe(CHANNEL)
        unauthenticated = [await harness.open_socket() for _ in range(2)]
        other = await harness.subscribe(CHANNEL, "two")
        assert aiohttp.WSMsgType.CLOSED == (await unauthenticated[0].receive(timeout=10)).type
        assert [False] * 3 == [socket.closed for socket in (client, unauthenticated[1], other)]
        assert 3 == len(harness.realtime.connections)
        await harness.store_run(7, client="two")
        await harness.finish_run(7, {"answer": 42}, client="two")
        assert CHANNEL == (await receive_message(other))[0]


async def test_unauthenticated_connections_never_exceed_the_limit() -> None:
    """R33: its memory is bounded at every moment."""
    async with realtime_server(max_connections=3) as harness:
        crowd = [await harness.open_socket() for _ in range(12)]
        assert (12, 3) == (len(crowd), len(harness.realtime.connections))
        await (await harness.connect(await harness.issue_token(CHANNEL))).close()


async def test_a_flood_of_unauthenticated_connections_displaces_only_its_own() -> None:
    """R33: one address has an eighth of the connections; another one has the time to authenticate."""
    async with realtime_server(max_connections=40) as harness:
        slow = await harness.open_socket(address="198.51.100.7")
        flood = [await harness.open_socket() for _ in range(60)]
        assert 6 == len(harness.realtime.connections)
        token = await harness.issue_token(CHANNEL)
        assert 1 == (await send_command(slow, {"id": 1, "connect": {"token": token}}))["id"]
        for displaced in flood[:-5]:
            assert aiohttp.WSMsgType.CLOSED == (await displaced.receive(timeout=10)).type
        assert [False] * 5 == [socket.closed for socket in flood[-5:]]


async def test_a_flood_from_many_addresses_displaces_the_most_crowded_one() -> None:
    """R33: at the limit of all connections."""
    async with realtime_server(max_connections=12) as harness:
        slow = await harness.open_socket(address="198.51.100.7")
        flood = [await harness.open_socket(address=f"192.0.2.{number % 5}") for number in range(30)]
        assert [False] * 11 == [socket.closed for socket in flood[-11:]]
        assert 12 == len(harness.realtime.connections)
        token = await harness.issue_token(CHANNEL)
        assert 1 == (await send_command(slow, {"id": 1, "connect": {"token": token}}))["id"]


async def test_authenticated_connections_of_one_address_are_not_bounded_as_others() -> None:
    """Behind a proxy that is not trusted all clients have one address."""
    async with realtime_server(max_connections=20) as harness:
        sockets = [await harness.subscribe(CHANNEL, client) for client in ("one", "two") for _ in range(9)]
        assert [False] * 18 == [socket.closed for socket in sockets]
        assert 18 == len(harness.realtime.connections)
        for socket in sockets:
            await socket.close()
        await wait_until(lambda: not harness.realtime.connections)
        assert {} == harness.realtime._unauthenticated


async def test_a_removed_client_receives_no_more_messages(harness: RealtimeHarness) -> None:
    """R77: a reload that removes a client also ends its connections."""
    socket = await harness.subscribe(CHANNEL)
    await harness.store_run(7)
    harness.known_clients.discard("one")
    await harness.finish_run(7, {"answer": 42})
    assert 3503 == await wait_closed(socket)


async def test_a_removed_client_is_disconnected(harness: RealtimeHarness) -> None:
    """R77: at the next ping, with or without subscriptions."""
    socket = await harness.connect(await harness.issue_token(CHANNEL))
    harness.known_clients.discard("one")
    await harness.clock.run_for(11)
    assert 3503 == await wait_closed(socket)


async def test_too_many_subscriptions_close_the_connection(harness: RealtimeHarness) -> None:
    """Each subscription gets a result: four subscriptions between two pings are the limit."""
    socket = await harness.subscribe(CHANNEL)
    for number in range(3):
        await send_command(socket, {"id": 3, "unsubscribe": {"channel": CHANNEL}})
        assert {"id": 4 + number, "subscribe": {}} == await send_command(
            socket, {"id": 4 + number, "subscribe": {"channel": CHANNEL}}
        )
    await send_command(socket, {"id": 3, "unsubscribe": {"channel": CHANNEL}})
    await socket.send_json({"id": 9, "subscribe": {"channel": CHANNEL}})
    assert 3501 == await wait_closed(socket)


async def test_a_client_that_does_not_read_costs_little_memory(harness: RealtimeHarness) -> None:
    """R33: the number of queued large results is bounded."""
    await harness.store_run(7)
    await harness.finish_run(7, "x" * 250_000)
    socket = await harness.connect(await harness.issue_token(CHANNEL))
    connection = socket._response.connection
    assert connection is not None
    assert connection.transport is not None
    realtime_connection, peak = next(iter(harness.realtime.connections)), 0
    transport = harness.realtime.connections[realtime_connection]
    assert transport is not None
    connection.transport.pause_reading()
    commands = [{"id": 2, "subscribe": {"channel": CHANNEL}}, {"id": 3, "unsubscribe": {"channel": CHANNEL}}]
    for _ in range(30):
        for command in commands:
            await socket.send_str(json.dumps(command))
            await asyncio.sleep(0.001)
        peak = max(peak, transport.get_write_buffer_size())
    assert peak < 1_500_000, peak


@pytest.mark.parametrize(
    "frame",
    [
        b"\xc1\x80" + MASK,  # compressed, which was not negotiated
        b"\xa1\x80" + MASK,  # another reserved bit
        b"\x80\x80" + MASK,  # the rest of nothing
        b"\x89\xfe\x00\x7e" + MASK + b"x" * 126,  # a ping that is too long
        b"\x09\x80" + MASK,  # a ping in pieces
        b"\x81\xff\x7f" + b"\xff" * 7 + MASK,  # so many bytes are promised
        b"\x81\x82" + MASK + b"\xff\xfe",  # no UTF-8
        b"\x01\xfe\x40\x00" + MASK + b"x" * 16_384 + b"\x80\x81" + MASK + b"x",  # too long, in pieces
    ],
)
async def test_frames_that_violate_the_websocket_protocol_close_the_connection(
    harness: RealtimeHarness, frame: bytes
) -> None:
    """R33: including a decompression bomb, which is not decompressed."""
    socket = await harness.open_socket()
    connection = socket._response.connection
    assert connection is not None
    assert connection.transport is not None
    connection.transport.write(frame)
    assert (await socket.receive(timeout=10)).type in {aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED}
    await wait_until(lambda: not harness.realtime.connections)
    assert [] == [
        realtime_connection["event"]
        for realtime_connection in harness.capture.entries
        if realtime_connection["log_level"] == "error"
    ]


async def test_a_compression_that_a_client_offers_is_not_taken_up(harness: RealtimeHarness) -> None:
    socket = await harness.session.ws_connect(harness.url + "/connection/websocket", compress=15)
    assert 0 == socket.compress
    assert "Sec-WebSocket-Extensions" not in socket._response.headers
