"""Slow or silent clients are disconnected, and do not delay others (R63, R64)."""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from providers.contract import JsonValue
from tests.security.gateway_harness import GatewayHarness, assert_problem, running_gateway
from tests.support.fake_upstream.faults import delayed
from tests.support.fake_upstream.provider_responses import STUDIO_RUN, prompt_studio_reply
from tests.support.raw_client import (
    JSON,
    RUN,
    RawConnection,
    build_get,
    build_head,
    build_run,
    raw_connection,
    send_request,
)
from tests.support.waiting import wait_until

pytestmark = pytest.mark.asyncio(loop_scope="session")

TIMER = 1.0
CLIENTS = 300


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[GatewayHarness]:
    """Gateway with short timeouts."""
    server: JsonValue = {"header_timeout": TIMER, "idle_timeout": 4 * TIMER, "body_timeout": TIMER}
    async with running_gateway(tmp_path_factory.mktemp("timers"), server=server) as running:
        yield running


async def seconds_until_closed(caller: RawConnection) -> float:
    """Return the seconds until the gateway closes a silent connection."""
    began = time.monotonic()
    await caller.wait_closed()
    return time.monotonic() - began


async def drip(caller: RawConnection, data: bytes, pause: float) -> None:
    """Send byte by byte until all is sent or the gateway has closed the connection."""
    with contextlib.suppress(ConnectionError):
        for at in range(len(data)):
            await caller.send(data[at : at + 1])
            await asyncio.sleep(pause)


@contextlib.asynccontextmanager
async def dripping(caller: RawConnection, data: bytes, pause: float = 0.1) -> AsyncIterator[None]:
    """Run `drip` until the block ends."""
    task = asyncio.create_task(drip(caller, data, pause))
    yield
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def silent(harness: GatewayHarness) -> float:
    async with raw_connection(harness.url) as caller:
        return await seconds_until_closed(caller)


async def half_a_head(harness: GatewayHarness) -> float:
    async with raw_connection(harness.url) as caller:
        await caller.send(build_run()[:60])
        return await seconds_until_closed(caller)


async def dripping_head(harness: GatewayHarness) -> float:
    async with raw_connection(harness.url) as caller, dripping(caller, b"GET /healthz HTTP/1.1\r\nX-A: " + b"a" * 1000):
        return await seconds_until_closed(caller)


async def only_empty_lines(harness: GatewayHarness) -> float:
    async with raw_connection(harness.url) as caller, dripping(caller, b"\r\n" * 1000):
        return await seconds_until_closed(caller)


async def second_head(harness: GatewayHarness) -> float:
    async with raw_connection(harness.url) as caller:
        await caller.send(build_run())
        assert 200 == (await caller.read_response()).status
        async with dripping(caller, build_get("/healthz")[:-2] + b"X-A: " + b"a" * 1000):
            return await seconds_until_closed(caller)


async def second_head_behind_a_slow_run(harness: GatewayHarness) -> float:
    """The timer expires during the first request and must be restarted; the connection then counts as idle."""
    harness.upstream.script("POST", STUDIO_RUN, [delayed(TIMER + 0.3, prompt_studio_reply({}))])
    async with raw_connection(harness.url) as caller:
        await caller.send(build_run() + build_get("/healthz")[:30])
        assert 200 == (await caller.read_response()).status
        return await seconds_until_closed(caller)


async def test_unfinished_heads_are_cut_off_by_the_header_timer(harness: GatewayHarness) -> None:
    """R63: silent, partial, dripping, or after another request: closed at the timeout, not earlier."""
    peers = (silent, half_a_head, dripping_head, only_empty_lines, second_head, second_head_behind_a_slow_run)
    waited = await asyncio.gather(*(peer(harness) for peer in peers))
    assert {} == {p.__name__: s for p, s in zip(peers, waited, strict=True) if s <= TIMER - 0.3}


async def test_many_slow_clients_do_not_delay_others(harness: GatewayHarness) -> None:
    """R63: /healthz is answered beside 300 of them, and all of them are disconnected in the end."""
    before = harness.gateway.open_fds()
    async with contextlib.AsyncExitStack() as stack:
        peers = [await stack.enter_async_context(raw_connection(harness.url)) for _ in range(CLIENTS)]
        drips = [asyncio.create_task(drip(peer, build_run(), 0.25)) for peer in peers]
        closed = asyncio.gather(*(peer.wait_closed() for peer in peers))
        answered, peak_fds = 0, 0
        while not closed.done():
            assert 200 == (await send_request(harness.url, build_get("/healthz"))).status
            answered += not closed.done()
            peak_fds = max(peak_fds, harness.gateway.open_fds())
            await asyncio.sleep(0.05)
        await closed
        assert answered > 0
        assert peak_fds > before  # a busy machine opens the last ones when the first ones have been closed
        await wait_until(lambda: harness.gateway.open_fds() <= before + 5)
        for task in drips:
            task.cancel()
        await asyncio.gather(*drips, return_exceptions=True)


async def test_clients_that_never_read_are_cut_off(harness: GatewayHarness) -> None:
    """R63: an unread response occupies connection and memory no longer than an unfinished head."""
    script = re.search(rb"docs/rapidoc[^\"]+", (await send_request(harness.url, build_get("/docs"))).body)
    assert script is not None
    size = len((await send_request(harness.url, build_get("/" + script[0].decode()))).raw)
    async with contextlib.AsyncExitStack() as stack:
        peers = [await stack.enter_async_context(raw_connection(harness.url)) for _ in range(10)]
        for peer in peers:
            peer.pause_reading()
            await peer.send(build_get("/" + script[0].decode()) * 20)
        await asyncio.sleep(TIMER + 1)
        assert 200 == (await send_request(harness.url, build_get("/healthz"))).status
        for peer in peers:
            peer.resume_reading()
        received = await asyncio.gather(*(peer.read_to_end() for peer in peers))
    assert [] == [len(data) for data in received if len(data) >= 20 * size]


SLOW_BODIES = {
    "silent": [build_head(headers={**JSON, "Content-Length": "100"})],
    "half": [build_head(headers={**JSON, "Content-Length": "100"}), RUN[:10]],
    "dripping": [build_head(headers={**JSON, "Content-Length": "1000"}), *(b" " for _ in range(100))],
    "chunked": [build_head(headers={**JSON, "Transfer-Encoding": "chunked"}), *(b"1\r\n \r\n" for _ in range(100))],
    "no last chunk": [build_head(headers={**JSON, "Transfer-Encoding": "chunked"}), b"%x\r\n%b\r\n" % (len(RUN), RUN)],
    "expecting": [build_head(headers={**JSON, "Content-Length": "100", "Expect": "100-continue"})],
}


async def slow_body(harness: GatewayHarness, pieces: list[bytes]) -> float:
    """Send the pieces 100 ms apart until there is a 408 that closes the connection; returns the seconds."""
    async with raw_connection(harness.url) as caller:
        began = time.monotonic()
        sending = asyncio.create_task(send_slowly(caller, pieces))
        reply = await caller.read_response()
        if reply.status == 100:
            reply = await caller.read_response()
        waited = time.monotonic() - began
        sending.cancel()
        assert_problem(reply, 408, "request_timeout")
        assert ("close", True) == (reply.header("Connection"), reply.json["retryable"])
    return waited


async def send_slowly(caller: RawConnection, pieces: list[bytes]) -> None:
    with contextlib.suppress(ConnectionError):
        for piece in pieces:
            await caller.send(piece)
            await asyncio.sleep(0.1)


async def test_slow_bodies_are_a_408_within_the_body_timer(harness: GatewayHarness) -> None:
    """R64: not a 504, and not earlier; no byte extends it. Nothing was run."""
    waited = await asyncio.gather(*(slow_body(harness, pieces) for pieces in SLOW_BODIES.values()))
    assert [] == [seconds for seconds in waited if seconds <= TIMER - 0.2]
    assert [] == harness.upstream.received


async def test_a_slow_body_without_a_key_gets_no_time(harness: GatewayHarness) -> None:
    """R64: a request without a key is refused before its body is awaited, which would be a 408."""
    reply = await send_request(harness.url, build_head(headers={**JSON, "Content-Length": "9"}, client=None))
    assert_problem(reply, 401, "unauthorized")
