"""Deletion of the store's data under a running gateway: no run is accepted, and every status reports it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import aiohttp
import pytest

from gateway.redis.connection import RedisAddress, RedisConnection
from tests.conftest import StartGateway
from tests.support.client import PROMPT_STUDIO_BODY
from tests.support.fake_upstream.provider_responses import STUDIO_RUN, prompt_studio_reply
from tests.support.fake_upstream.upstream import FakeUpstream
from tests.support.gateway_restarts import RestartableGateway
from tests.support.process import metric_sum
from tests.support.valkey import ValkeyServer, running_server


async def _remove_file(path: Path, _server: ValkeyServer) -> None:
    await asyncio.to_thread(path.unlink)


async def _flush_server(_path: Path, server: ValkeyServer) -> None:
    connection = RedisConnection(RedisAddress("127.0.0.1", server.port))
    await connection.execute_one("FLUSHALL")
    await connection.close()


@pytest.mark.parametrize("kind", ["sqlite", "redis"])
async def test_no_run_is_accepted_after_the_data_were_deleted(
    gateway: StartGateway, session: aiohttp.ClientSession, upstream: FakeUpstream, tmp_path: Path, kind: str
) -> None:
    """503 `store_unavailable` for a 202 and for a key, nothing is sent, readiness and the metric report it."""
    upstream.always("POST", STUDIO_RUN, prompt_studio_reply({"completion": "because"}))
    with running_server(tmp_path / "server") as server:
        path = tmp_path / "runward.db"
        url = server.url if kind == "redis" else f"sqlite:///{path}"
        running = RestartableGateway(gateway, session, path, store={"url": url})
        await running.start()
        await running.wait_for_end(await running.submit_async(PROMPT_STUDIO_BODY))
        assert 1 == metric_sum(await running.current.metrics(), "runward_store_available")
        await (_flush_server if kind == "redis" else _remove_file)(path, server)
        refused = [
            await running.post(PROMPT_STUDIO_BODY, **headers)
            for headers in ({"Prefer": "respond-async"}, {"Idempotency-Key": "one"})
        ]
        assert [(503, "store_unavailable")] * 2 == [(answer.status, answer.json["code"]) for answer in refused]
        assert (200, {"status": "ready", "store": "unavailable"}) == await running.get_readiness()
        assert 0 == metric_sum(await running.current.metrics(), "runward_store_available")
        assert 1 == len(upstream.received)
