"""Gateways with a Redis or Valkey store: shared runs, recovery by other replicas, and server outages."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING

import pytest

from gateway.clock import SystemClock
from gateway.redis.connection import RedisAddress, RedisConnection
from gateway.store.redis.store import RedisStore
from tests.support.client import PROMPT_STUDIO_BODY, PROMPTLAYER_BODY
from tests.support.fake_upstream import faults
from tests.support.fake_upstream.provider_responses import (
    LAYER_RESULTS,
    LAYER_RUN,
    STUDIO_RUN,
    node,
    prompt_studio_reply,
    promptlayer_done,
    promptlayer_running,
    promptlayer_started,
)
from tests.support.gateway_restarts import RestartableGateway
from tests.support.process import GatewayExitedError, metric_sum
from tests.support.valkey import ValkeyServer, running_server, start_server
from tests.support.waiting import WAIT_TIMEOUT, wait_until

if TYPE_CHECKING:
    from pathlib import Path

    import aiohttp

    from tests.conftest import StartGateway
    from tests.support.fake_upstream.upstream import FakeUpstream

DONE = promptlayer_done({"Answer": node("because")})


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ValkeyServer]:
    """Server that fsyncs each write before it acknowledges it."""
    with running_server(tmp_path / "server") as running:
        yield running


@pytest.fixture
def restartable(
    gateway: StartGateway, session: aiohttp.ClientSession, tmp_path: Path, server: ValkeyServer
) -> RestartableGateway:
    """Gateways on that server, not started."""
    return RestartableGateway(gateway, session, tmp_path / "unused.db", store={"url": server.url})


@pytest.fixture
async def observer_store(server: ValkeyServer) -> AsyncIterator[RedisStore]:
    """The same store, opened by the test."""
    store = RedisStore(RedisConnection(RedisAddress("127.0.0.1", server.port)), SystemClock())
    await store.open()
    yield store
    await store.close()


async def test_a_key_gives_the_same_answer_after_a_power_cut(
    upstream: FakeUpstream, restartable: RestartableGateway
) -> None:
    """R37, R47: byte for byte, from a gateway that did not run it; one start."""
    upstream.always("POST", STUDIO_RUN, prompt_studio_reply({"completion": "because"}))
    await restartable.start()
    first = await restartable.post(PROMPT_STUDIO_BODY, Idempotency_Key="one")
    await restartable.kill_and_restart()
    again = await restartable.post(PROMPT_STUDIO_BODY, Idempotency_Key="one")
    assert (200, first.body, "true") == (first.status, again.body, again.headers["Idempotent-Replayed"])
    assert 1 == len(upstream.requests("POST"))


async def test_a_run_is_followed_by_another_once_its_lease_is_over(
    upstream: FakeUpstream, restartable: RestartableGateway, observer_store: RedisStore
) -> None:
    """R48: the next gateway polls the run of a dead one, and starts nothing."""
    upstream.always("POST", LAYER_RUN, promptlayer_started(77))
    upstream.always("GET", LAYER_RESULTS, promptlayer_running())
    await restartable.start()
    run_id = await restartable.submit_async(PROMPTLAYER_BODY)
    await wait_until(lambda: upstream.requests("GET"))
    assert -9 == await restartable.current.kill()
    run = await observer_store.get_run(run_id)
    assert run is not None
    await observer_store.renew_leases(run.owner, 0.0)  # half a minute later, as it were
    upstream.always("GET", LAYER_RESULTS, DONE)
    await restartable.start()
    assert "succeeded" == (await restartable.wait_for_end(run_id))["status"]
    assert 1 == len(upstream.requests("POST"))


async def test_a_stopped_gateway_releases_its_runs_at_once(
    upstream: FakeUpstream, restartable: RestartableGateway
) -> None:
    """R98: after an orderly shutdown the leases need not expire."""
    upstream.always("POST", LAYER_RUN, promptlayer_started(77))
    upstream.always("GET", LAYER_RESULTS, promptlayer_running())
    await restartable.start()
    run_id = await restartable.submit_async(PROMPTLAYER_BODY)
    await wait_until(lambda: upstream.requests("GET"))
    assert 0 == await restartable.current.stop()
    upstream.always("GET", LAYER_RESULTS, DONE)
    await restartable.start()
    assert "succeeded" == (await restartable.wait_for_end(run_id))["status"]
    assert 1 == len(upstream.requests("POST"))


async def test_two_gateways_share_runs_keys_and_notifications(
    upstream: FakeUpstream,
    restartable: RestartableGateway,
    gateway: StartGateway,
    session: aiohttp.ClientSession,
    tmp_path: Path,
) -> None:
    """R45: one key at both replicas, one start; a client at one replica is notified of the end at the other."""
    other = RestartableGateway(gateway, session, tmp_path / "unused.db", store=restartable.overrides["store"])
    upstream.always("POST", STUDIO_RUN, faults.delayed(0.3, prompt_studio_reply({"completion": "because"})))
    await asyncio.gather(restartable.start(), other.start())
    run_id = await restartable.submit_async(PROMPT_STUDIO_BODY)
    assert "succeeded" == (await other.wait_for_end(run_id))["status"]
    answers = await asyncio.gather(
        *(each.post_until_finished(PROMPT_STUDIO_BODY, "one") for each in (restartable, other) * 3)
    )
    assert 1 == len({answer.body for answer in answers})
    assert 2 == len(upstream.requests("POST"))


async def test_a_lost_server_is_a_503_and_comes_back(
    upstream: FakeUpstream, restartable: RestartableGateway, server: ValkeyServer
) -> None:
    """R54, R99: durable runs are refused, others continue; readiness stays 200 and reports the outage."""
    upstream.always("POST", STUDIO_RUN, prompt_studio_reply({"completion": "because"}))
    await restartable.start()
    kept = await restartable.post(PROMPT_STUDIO_BODY, Idempotency_Key="one")
    server.kill()
    async with asyncio.timeout(WAIT_TIMEOUT):
        keyed, asynchronous = await asyncio.gather(
            restartable.post(PROMPT_STUDIO_BODY, Idempotency_Key="two"),
            restartable.post(PROMPT_STUDIO_BODY, Prefer="respond-async"),
        )
        plain = await restartable.post(PROMPT_STUDIO_BODY)
    assert ["store_unavailable"] * 2 == [answer.json["code"] for answer in (keyed, asynchronous)]
    assert [503, 503, 200] == [answer.status for answer in (keyed, asynchronous, plain)]
    assert (200, {"status": "ready", "store": "unavailable"}) == await restartable.get_readiness()
    again = start_server(server.directory, port=server.port)
    try:
        async with asyncio.timeout(WAIT_TIMEOUT):
            while (replayed := await restartable.post(PROMPT_STUDIO_BODY, Idempotency_Key="one")).status == 503:
                await asyncio.sleep(0.05)
        assert kept.body == replayed.body
        assert (200, {"status": "ready"}) == await restartable.get_readiness()
        assert 2 == len(upstream.requests("POST"))
    finally:
        await restartable.current.stop()
        again.kill()


async def test_a_gateway_without_its_server_does_not_start(
    restartable: RestartableGateway, server: ValkeyServer
) -> None:
    """R100: it reports the error and accepts no run."""
    server.kill()
    with pytest.raises(GatewayExitedError, match="the server cannot be reached"):
        await restartable.start()


async def test_a_server_without_persistence_is_reported_once(
    restartable: RestartableGateway, server: ValkeyServer
) -> None:
    """One log line and a gauge; neither for a durable server."""
    await restartable.start()
    assert [] == restartable.current.logs("store_not_durable")
    assert 1 == metric_sum(await restartable.current.metrics(), "runward_store_durable")
    link = RedisConnection(RedisAddress("127.0.0.1", server.port))
    await link.execute_one("CONFIG", "SET", "appendonly", "no")
    await link.close()
    await restartable.start()
    (line,) = restartable.current.logs("store_not_durable")
    assert ("warning", "the server has no append-only file (appendonly is off)") == (line["level"], line["why"])
    assert 0 == metric_sum(await restartable.current.metrics(), "runward_store_durable")
