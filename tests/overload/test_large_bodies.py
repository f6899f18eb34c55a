"""Large bodies: no delay of small requests, and no retained memory."""

from __future__ import annotations

import asyncio
import http.client
import json
import statistics
import time
from functools import partial
from typing import TYPE_CHECKING

import pytest

from tests.support.client import PROMPT_STUDIO_BODY, auth_headers
from tests.support.fake_upstream.provider_responses import prompt_studio_reply
from tests.support.fake_upstream.responses import reply
from tests.support.load_generator import at_constant_rate, concurrently

if TYPE_CHECKING:
    import aiohttp

    from tests.conftest import StartGateway
    from tests.support.fake_upstream.faults import ResponseScript
    from tests.support.fake_upstream.upstream import FakeUpstream

pytestmark = pytest.mark.slow

TRIES = 3  # a busy machine may spoil one comparison
DONE = prompt_studio_reply({"completion": "because"})
ROWS = [{"id": n, "text": "what is the fastest car in the world?", "tags": ["a", "b"], "x": n / 7} for n in range(9200)]
DENSE = json.dumps({**PROMPT_STUDIO_BODY, "input": {"rows": ROWS}}).encode()
PLAIN = json.dumps({**PROMPT_STUDIO_BODY, "input": {"text": "x" * 900_000}}).encode()
HEADERS = {**auth_headers("one"), "Content-Type": "application/json"}


async def send(session: aiohttp.ClientSession, url: str, body: bytes) -> float:
    """POST /run; returns the duration."""
    began = time.monotonic()
    async with session.post(url + "/run", data=body, headers=HEADERS) as answer:
        await answer.read()
    return time.monotonic() - began


def probe(url: str, seconds: float) -> list[float]:
    """Request /healthz every 10 ms in a thread, independent of this event loop; returns the durations."""
    connection = http.client.HTTPConnection(url.removeprefix("http://"))
    took = []
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        began = time.monotonic()
        connection.request("GET", "/healthz")
        answer = connection.getresponse()
        assert (200, b'{"status":"alive"}') == (answer.status, answer.read())
        took.append(time.monotonic() - began)
        time.sleep(0.01)
    connection.close()
    return took


async def test_health_is_answered_while_large_bodies_come(
    upstream: FakeUpstream, gateway: StartGateway, session: aiohttp.ClientSession
) -> None:
    """R35 for 3 s: ten bodies of 1 MB per second: 19 of 20 probes take no longer than two such runs alone."""
    assert 900_000 < len(DENSE) < 1_000_000
    upstream.default = DONE
    running = await gateway()
    large = partial(send, session, running.url, DENSE)
    alone = statistics.median([await large() for _ in range(10)])
    idle = statistics.median(await asyncio.to_thread(probe, running.url, 1.0))
    excess: list[float] = []
    while len(excess) < TRIES and min(excess, default=2.0) >= 2.0:
        busy, _ = await asyncio.gather(asyncio.to_thread(probe, running.url, 3.0), at_constant_rate(10, 3, large))
        excess.append((statistics.quantiles(busy, n=20)[-1] - idle) / alone)
    assert 10 + 30 * len(excess) == len(upstream.received)
    assert min(excess) < 2, excess


@pytest.mark.parametrize("answer", [DONE, reply(429, {})], ids=["done", "429"])
async def test_nothing_of_a_large_body_is_kept(
    upstream: FakeUpstream, gateway: StartGateway, session: aiohttp.ClientSession, answer: ResponseScript
) -> None:
    """R34: 100 further runs of 0.9 MB, successful or not, retain less memory than 25 bodies."""
    upstream.default = answer
    running = await gateway(breaker={"failures": 1_000_000}, retries={"backoff": "1ms", "backoff_max": "1ms"})
    sizes = []
    for rounds in (5, 25):
        for _ in range(rounds):
            await concurrently(4, partial(send, session, running.url, PLAIN))
            upstream.received.clear()
        sizes.append(running.rss_bytes())
    assert sizes[1] - sizes[0] < 25 * 900_000
