"""Gateways on a Redis or Valkey server: what one of them leaves another finds, and what a lost server does to them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING

import pytest

from gateway.clock import SystemClock
from gateway.store.redis import RedisStore
from gateway.store.redis_link import Address, RedisLink
from tests.client import LAYER, STUDIO
from tests.durable.lives import PATIENCE, Lives, until
from tests.faults import faults
from tests.faults.provider_answers import (
    LAYER_RESULTS,
    LAYER_RUN,
    STUDIO_RUN,
    node,
    prompt_studio_reply,
    promptlayer_done,
    promptlayer_running,
    promptlayer_started,
)
from tests.process import DiedError, total
from tests.valkey import Valkey, running_server, start_server

if TYPE_CHECKING:
    from pathlib import Path

    import aiohttp

    from tests.conftest import StartGateway
    from tests.faults.upstream import Upstream

DONE = promptlayer_done({"Answer": node("because")})


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Valkey]:
    """A server that writes each change to disk before it says so."""
    with running_server(tmp_path / "server") as running:
        yield running


@pytest.fixture
def lives(gateway: StartGateway, session: aiohttp.ClientSession, tmp_path: Path, server: Valkey) -> Lives:
    """Gateways on that server, none of them begun."""
    return Lives(gateway, session, tmp_path / "unused.db", store={"url": server.url})


@pytest.fixture
async def beside(server: Valkey) -> AsyncIterator[RedisStore]:
    """The same store, seen by the test."""
    store = RedisStore(RedisLink(Address("127.0.0.1", server.port)), SystemClock())
    await store.open()
    yield store
    await store.close()


async def test_a_key_gives_the_same_answer_after_a_power_cut(upstream: Upstream, lives: Lives) -> None:
    """R37, R47: byte for byte, from a gateway that never ran it; one start."""
    upstream.always("POST", STUDIO_RUN, prompt_studio_reply({"completion": "because"}))
    await lives.begin()
    first = await lives.post(STUDIO, Idempotency_Key="one")
    await lives.die_and_begin()
    again = await lives.post(STUDIO, Idempotency_Key="one")
    assert (200, first.body, "true") == (first.status, again.body, again.headers["Idempotent-Replayed"])
    assert 1 == len(upstream.requests("POST"))


async def test_a_run_is_followed_by_another_once_its_lease_is_over(
    upstream: Upstream, lives: Lives, beside: RedisStore
) -> None:
    """R48: the one that started it is gone; the next one asks about it, and starts nothing."""
    upstream.always("POST", LAYER_RUN, promptlayer_started(77))
    upstream.always("GET", LAYER_RESULTS, promptlayer_running())
    await lives.begin()
    run_id = await lives.accepted(LAYER)
    await until(lambda: upstream.requests("GET"))
    assert -9 == await lives.now.kill()
    run = await beside.run(run_id)
    assert run is not None
    await beside.renew(run.owner, 0.0)  # half a minute later, as it were
    upstream.always("GET", LAYER_RESULTS, DONE)
    await lives.begin()
    assert "succeeded" == (await lives.ended(run_id))["status"]
    assert 1 == len(upstream.requests("POST"))


async def test_who_stops_leaves_its_runs_to_the_others_at_once(upstream: Upstream, lives: Lives) -> None:
    """R98: nobody waits for the leases of a gateway that ended in order."""
    upstream.always("POST", LAYER_RUN, promptlayer_started(77))
    upstream.always("GET", LAYER_RESULTS, promptlayer_running())
    await lives.begin()
    run_id = await lives.accepted(LAYER)
    await until(lambda: upstream.requests("GET"))
    assert 0 == await lives.now.stop()
    upstream.always("GET", LAYER_RESULTS, DONE)
    await lives.begin()
    assert "succeeded" == (await lives.ended(run_id))["status"]
    assert 1 == len(upstream.requests("POST"))


async def test_two_gateways_share_runs_keys_and_news(
    upstream: Upstream, lives: Lives, gateway: StartGateway, session: aiohttp.ClientSession, tmp_path: Path
) -> None:
    """R45: one key at both, one start; and who waits at one is told when the other is done."""
    other = Lives(gateway, session, tmp_path / "unused.db", store=lives.overrides["store"])
    upstream.always("POST", STUDIO_RUN, faults.after(0.3, prompt_studio_reply({"completion": "because"})))
    await asyncio.gather(lives.begin(), other.begin())
    run_id = await lives.accepted(STUDIO)
    assert "succeeded" == (await other.ended(run_id))["status"]
    answers = await asyncio.gather(*(each.post_until_told(STUDIO, "one") for each in (lives, other) * 3))
    assert 1 == len({answer.body for answer in answers})
    assert 2 == len(upstream.requests("POST"))


async def test_a_lost_server_is_a_503_and_comes_back(upstream: Upstream, lives: Lives, server: Valkey) -> None:
    """R54, R99: what must be kept is refused, what need not be goes on; ready all the time, and says so."""
    upstream.always("POST", STUDIO_RUN, prompt_studio_reply({"completion": "because"}))
    await lives.begin()
    kept = await lives.post(STUDIO, Idempotency_Key="one")
    server.kill()
    async with asyncio.timeout(PATIENCE):
        keyed, asynchronous = await asyncio.gather(
            lives.post(STUDIO, Idempotency_Key="two"), lives.post(STUDIO, Prefer="respond-async")
        )
        plain = await lives.post(STUDIO)
    assert ["store_unavailable"] * 2 == [answer.json["code"] for answer in (keyed, asynchronous)]
    assert [503, 503, 200] == [answer.status for answer in (keyed, asynchronous, plain)]
    assert (200, {"status": "ready", "store": "unavailable"}) == await lives.ready()
    again = start_server(server.directory, port=server.port)
    try:
        async with asyncio.timeout(PATIENCE):
            while (replayed := await lives.post(STUDIO, Idempotency_Key="one")).status == 503:
                await asyncio.sleep(0.05)
        assert kept.body == replayed.body
        assert (200, {"status": "ready"}) == await lives.ready()
        assert 2 == len(upstream.requests("POST"))
    finally:
        await lives.now.stop()
        again.kill()


async def test_a_gateway_without_its_server_does_not_begin(lives: Lives, server: Valkey) -> None:
    """R100: it says so; nothing is taken that could not be kept."""
    server.kill()
    with pytest.raises(DiedError, match="the server can not be reached"):
        await lives.begin()


async def test_a_server_that_would_forget_is_told_of_once(lives: Lives, server: Valkey) -> None:
    """One line and a gauge; a server that keeps everything gives neither."""
    await lives.begin()
    assert [] == lives.now.logs("store_not_durable")
    assert 1 == total(await lives.now.metrics(), "runward_store_durable")
    link = RedisLink(Address("127.0.0.1", server.port))
    await link.ask("CONFIG", "SET", "appendonly", "no")
    await link.close()
    await lives.begin()
    (line,) = lives.now.logs("store_not_durable")
    assert ("warning", "the server has no append-only file (appendonly is off)") == (line["level"], line["why"])
    assert 0 == total(await lives.now.metrics(), "runward_store_durable")
