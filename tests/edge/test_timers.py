"""Peers that are slow or silent are not waited for, and hold up nobody (R63, R64)."""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from providers.contract import JsonValue
from tests.edge.raw import JSON, RUN, Caller, ask, calling, get, head, post
from tests.edge.world import World, expect_problem, serving
from tests.faults.faults import after
from tests.faults.provider_answers import STUDIO_RUN, prompt_studio_reply

pytestmark = pytest.mark.asyncio(loop_scope="session")

TIMER = 1.0
LATE = 1.5  # what a busy machine may add to a timer
PEERS = 300


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    """A gateway with short timers."""
    server: JsonValue = {"header_timeout": TIMER, "body_timeout": TIMER}
    async with serving(tmp_path_factory.mktemp("timers"), server=server) as running:
        yield running


async def seconds_until_closed(caller: Caller) -> float:
    """How long the gateway keeps a connection on which it says nothing."""
    began = time.monotonic()
    await caller.closed()
    return time.monotonic() - began


async def drip(caller: Caller, data: bytes, pause: float) -> None:
    """Send byte by byte until all is sent, or the gateway has closed."""
    with contextlib.suppress(ConnectionError):
        for at in range(len(data)):
            await caller.send(data[at : at + 1])
            await asyncio.sleep(pause)


@contextlib.asynccontextmanager
async def dripping(caller: Caller, data: bytes, pause: float = 0.1) -> AsyncIterator[None]:
    """`drip` as long as the block lasts."""
    task = asyncio.create_task(drip(caller, data, pause))
    yield
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def silent(world: World) -> float:
    async with calling(world.url) as caller:
        return await seconds_until_closed(caller)


async def half_a_head(world: World) -> float:
    async with calling(world.url) as caller:
        await caller.send(post()[:60])
        return await seconds_until_closed(caller)


async def dripping_head(world: World) -> float:
    async with calling(world.url) as caller, dripping(caller, b"GET /healthz HTTP/1.1\r\nX-A: " + b"a" * 1000):
        return await seconds_until_closed(caller)


async def only_empty_lines(world: World) -> float:
    async with calling(world.url) as caller, dripping(caller, b"\r\n" * 1000):
        return await seconds_until_closed(caller)


async def second_head(world: World) -> float:
    async with calling(world.url) as caller:
        await caller.send(post())
        assert 200 == (await caller.reply()).status
        async with dripping(caller, get("/healthz")[:-2] + b"X-A: " + b"a" * 1000):
            return await seconds_until_closed(caller)


async def second_head_behind_a_slow_run(world: World) -> float:
    """The timer rings while the first request is in work; it must ring again."""
    world.upstream.script("POST", STUDIO_RUN, [after(TIMER + 0.3, prompt_studio_reply({}))])
    async with calling(world.url) as caller:
        await caller.send(post() + get("/healthz")[:30])
        assert 200 == (await caller.reply()).status
        return await seconds_until_closed(caller)


async def test_unfinished_heads_are_cut_off_by_the_header_timer(world: World) -> None:
    """R63: silent, half, dripping, or behind another request: closed when the time is over, and not much before."""
    peers = (silent, half_a_head, dripping_head, only_empty_lines, second_head, second_head_behind_a_slow_run)
    waited = await asyncio.gather(*(peer(world) for peer in peers))
    outside = {p.__name__: s for p, s in zip(peers, waited, strict=True) if not TIMER - 0.3 < s < TIMER + LATE}
    assert {} == outside


async def test_many_dripping_peers_hold_up_nobody(world: World) -> None:
    """R63: with 300 of them /healthz answers within a second, and in the end every one of them is cut off."""
    async with contextlib.AsyncExitStack() as stack:
        peers = [await stack.enter_async_context(calling(world.url)) for _ in range(PEERS)]
        drips = [asyncio.create_task(drip(peer, post(), 0.25)) for peer in peers]
        closed = asyncio.gather(*(peer.closed() for peer in peers))
        slowest, most = 0.0, 0
        while not closed.done():
            began = time.monotonic()
            assert 200 == (await ask(world.url, get("/healthz"))).status
            slowest = max(slowest, time.monotonic() - began)
            most = max(most, world.gateway.open_fds())
            await asyncio.sleep(0.05)
        await closed
        assert (True, True, True) == (slowest < 1, most > PEERS, world.gateway.open_fds() < PEERS)
        for task in drips:
            task.cancel()
        await asyncio.gather(*drips, return_exceptions=True)


async def test_clients_that_never_read_are_cut_off(world: World) -> None:
    """R63: an answer that nobody takes holds its connection and memory no longer than an unfinished head does."""
    script = re.search(rb"docs/rapidoc[^\"]+", (await ask(world.url, get("/docs"))).body)
    assert script is not None
    size = len((await ask(world.url, get("/" + script[0].decode()))).raw)
    async with contextlib.AsyncExitStack() as stack:
        peers = [await stack.enter_async_context(calling(world.url)) for _ in range(10)]
        for peer in peers:
            peer.pause_reading()
            await peer.send(get("/" + script[0].decode()) * 20)
        await asyncio.sleep(TIMER + 1)
        assert 200 == (await ask(world.url, get("/healthz"))).status
        for peer in peers:
            peer.resume_reading()
        received = await asyncio.gather(*(peer.rest() for peer in peers))
    assert [] == [len(data) for data in received if len(data) >= 20 * size]


SLOW_BODIES = {
    "silent": [head(headers={**JSON, "Content-Length": "100"})],
    "half": [head(headers={**JSON, "Content-Length": "100"}), RUN[:10]],
    "dripping": [head(headers={**JSON, "Content-Length": "1000"}), *(b" " for _ in range(100))],
    "chunked": [head(headers={**JSON, "Transfer-Encoding": "chunked"}), *(b"1\r\n \r\n" for _ in range(100))],
    "no last chunk": [head(headers={**JSON, "Transfer-Encoding": "chunked"}), b"%x\r\n%b\r\n" % (len(RUN), RUN)],
    "expecting": [head(headers={**JSON, "Content-Length": "100", "Expect": "100-continue"})],
}


async def slow_body(world: World, pieces: list[bytes]) -> float:
    """Send the pieces 100 ms apart until there is an answer: a 408 that ends the connection. After how long."""
    async with calling(world.url) as caller:
        began = time.monotonic()
        sending = asyncio.create_task(pace(caller, pieces))
        reply = await caller.reply()
        if reply.status == 100:
            reply = await caller.reply()
        waited = time.monotonic() - began
        sending.cancel()
        expect_problem(reply, 408, "request_timeout")
        assert ("close", True) == (reply.header("Connection"), reply.json["retryable"])
    return waited


async def pace(caller: Caller, pieces: list[bytes]) -> None:
    with contextlib.suppress(ConnectionError):
        for piece in pieces:
            await caller.send(piece)
            await asyncio.sleep(0.1)


async def test_slow_bodies_are_a_408_within_the_body_timer(world: World) -> None:
    """R64: not a 504, and not earlier; no byte extends it. Nothing was run."""
    waited = await asyncio.gather(*(slow_body(world, pieces) for pieces in SLOW_BODIES.values()))
    assert [] == [seconds for seconds in waited if not TIMER - 0.2 < seconds < TIMER + LATE]
    assert [] == world.upstream.log


async def test_a_slow_body_without_a_key_gets_no_time(world: World) -> None:
    """R64: who has no key is refused before its body is waited for."""
    began = time.monotonic()
    reply = await ask(world.url, head(headers={**JSON, "Content-Length": "9"}, client=None))
    expect_problem(reply, 401, "unauthorized")
    assert time.monotonic() - began < 1
