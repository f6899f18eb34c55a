"""Fake upstream: routing, counting, and availability."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from tests.support.fake_upstream.faults import fin_after_request, hang, rst_on_accept
from tests.support.fake_upstream.responses import reply
from tests.support.fake_upstream.upstream import FakeUpstream, closed_port, unresponsive_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import aiohttp

    from tests.support.fake_upstream.connection import UpstreamConnection

RUN = b"POST /run?x=1 HTTP/1.1\r\nHost: a\r\nX-Api-Key: k\r\nContent-Length: 4\r\n\r\nbody"


@pytest.fixture
async def fake() -> AsyncIterator[FakeUpstream]:
    """Fake upstream without scripts."""
    async with FakeUpstream() as running:
        yield running


async def exchange(fake: FakeUpstream, *sent: bytes) -> bytes:
    """Send bytes on a new connection; returns the received bytes until its end or 0.2 s of silence."""
    host, _, port = fake.url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    received = b""
    try:
        for piece in sent:
            writer.write(piece)
            await asyncio.sleep(0.02)
        async with asyncio.timeout(0.2):
            while part := await reader.read(65_536):
                received += part
    except TimeoutError:
        pass
    finally:
        writer.transport.abort()
    return received


async def test_scripts_of_a_route_are_used_in_order_and_then_the_default(
    fake: FakeUpstream, session: aiohttp.ClientSession
) -> None:
    """Each request takes one script from its route's queue."""
    fake.script("POST", "/run", [reply(201, {"n": 1}), reply(202, {"n": 2})])
    seen = []
    for _ in range(3):
        async with session.post(fake.url + "/run?x=1", json={}) as answer:
            seen.append((answer.status, (await answer.json()).get("n")))
    assert [(201, 1), (202, 2), (418, None)] == seen


async def test_the_newest_standing_answer_counts_once_the_queue_is_empty(
    fake: FakeUpstream, session: aiohttp.ClientSession
) -> None:
    fake.always("GET", "/results", reply(202))
    fake.always("GET", "/results", reply(200))
    fake.script("GET", "/results", [reply(503)])
    seen = []
    for _ in range(3):
        async with session.get(fake.url + "/results") as answer:
            seen.append(answer.status)
    assert [503, 200, 200] == seen


async def test_a_request_is_logged_as_it_stood_on_the_wire(fake: FakeUpstream) -> None:
    """Head and body are the raw bytes, in any segmentation."""
    await exchange(fake, RUN[:10], RUN[10:-2], RUN[-2:])
    [request] = fake.requests("POST", "/run")
    assert RUN == request.head + request.body
    assert ("POST", "/run?x=1", "/run", b"body") == (request.method, request.target, request.path, request.body)
    assert (("Host", "a"), ("X-Api-Key", "k"), ("Content-Length", "4")) == request.headers
    assert ("k", None) == (request.header("x-api-key"), request.header("cookie"))


async def test_a_chunked_request_is_read_to_its_end(fake: FakeUpstream) -> None:
    body = b"3\r\nabc\r\n0\r\n\r\n"
    await exchange(fake, b"POST /run HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", body)
    assert [body] == [request.body for request in fake.received]


async def test_half_a_request_is_a_connection_and_no_request(fake: FakeUpstream) -> None:
    await exchange(fake, RUN[:-1])
    assert ([], 1) == (fake.received, len(fake.connections))


async def test_times_are_in_order_and_the_peers_end_is_seen(fake: FakeUpstream) -> None:
    """Connect, first byte, complete, EOF; connections are numbered."""
    fake.default = hang
    await exchange(fake, RUN[:10], RUN[10:])
    await asyncio.sleep(0.05)
    [request] = fake.received
    connection = request.connection
    assert connection.eof_at is not None
    assert connection.opened_at <= request.first_byte_at < request.complete_at < connection.eof_at
    assert 1 == connection.number


async def test_our_own_end_is_not_taken_for_the_peers(fake: FakeUpstream) -> None:
    fake.default = fin_after_request
    await exchange(fake, RUN)
    assert fake.connections[0].eof_at is None


async def test_requests_on_one_connection_share_its_number(fake: FakeUpstream, session: aiohttp.ClientSession) -> None:
    fake.default = reply(200)
    for _ in range(3):
        async with session.get(fake.url) as answer:
            await answer.read()
    assert [1, 1, 1] == [request.connection.number for request in fake.received]
    assert 1 == len(fake.connections)


async def test_a_script_on_accept_runs_before_anything_is_read(fake: FakeUpstream) -> None:
    fake.on_accept([rst_on_accept(0.05)])
    with pytest.raises(ConnectionResetError):
        await exchange(fake, RUN)
    assert ([], 1) == (fake.received, len(fake.connections))


async def test_down_refuses_and_up_listens_at_the_same_place(fake: FakeUpstream) -> None:
    """Open connections are reset."""
    url = fake.url
    await exchange(fake, RUN)
    await fake.stop()
    with pytest.raises(ConnectionRefusedError):
        await exchange(fake, RUN)
    await fake.start()
    await exchange(fake, RUN)
    assert (url, 2) == (fake.url, len(fake.received))


async def test_flap_goes_up_and_down_and_ends_up(fake: FakeUpstream) -> None:
    seen = set()
    async with fake.flap(up=0.05, down=0.05):
        for _ in range(30):
            try:
                await exchange_status(fake)
                seen.add("up")
            except ConnectionError:
                seen.add("down")
            await asyncio.sleep(0.01)
    await exchange_status(fake)
    assert {"up", "down"} == seen


async def exchange_status(fake: FakeUpstream) -> None:
    """Connect and disconnect."""
    host, _, port = fake.url.removeprefix("http://").partition(":")
    _, writer = await asyncio.open_connection(host, int(port))
    writer.transport.abort()


async def test_a_closed_port_refuses_and_is_held() -> None:
    with closed_port() as url:
        host, _, port = url.removeprefix("http://").partition(":")
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(host, int(port))
        with pytest.raises(OSError, match="in use"):
            await asyncio.start_server(lambda _reader, _writer: None, host, int(port))


async def test_a_silent_port_neither_accepts_nor_refuses() -> None:
    with unresponsive_port() as url:
        host, _, port = url.removeprefix("http://").partition(":")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await asyncio.open_connection(host, int(port))


async def test_an_error_in_a_script_is_raised_by_close() -> None:
    """An error in a test's script must not look like a fault of the upstream."""

    async def broken(_wire: UpstreamConnection) -> None:
        raise KeyError("typo")

    fake = FakeUpstream()
    await fake.start()
    fake.default = broken
    await exchange(fake, RUN)
    with pytest.raises(ExceptionGroup, match="scripts"):
        await fake.close()
