"""Tokens with several workers: each verifies them, and a reload of the log-in reaches the supervisor."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import yaml

from tests.support.client import PROMPT_STUDIO_BODY
from tests.support.config_files import replace_file
from tests.support.configuration import gateway_config
from tests.support.fake_upstream.provider_responses import prompt_studio_reply
from tests.support.process import metric_sum
from tests.support.token_issuer import TokenIssuer
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    import aiohttp

    from tests.supervisor.conftest import StartWorkers
    from tests.support.fake_upstream.upstream import FakeUpstream


async def offered(session: aiohttp.ClientSession, ops_url: str) -> str | None:
    """Return the issuer through which the console offers to log in."""
    async with session.get(f"{ops_url}/api/login") as answer:
        issuer: str | None = (await answer.json())["issuer"]
        return issuer


async def test_each_worker_verifies_tokens(
    start_workers: StartWorkers, upstream: FakeUpstream, session: aiohttp.ClientSession
) -> None:
    upstream.default = prompt_studio_reply({"completion": "because"})
    async with TokenIssuer() as issuer:
        match = [{"issuer": "test", "audience": "runward", "match": {"sub": "app"}}]
        settings: dict[str, Any] = {
            "issuers": {"test": {"url": issuer.url}},
            "clients": {"pods": {"workflows": ["*"], "tokens": match}},
        }
        gateway = await start_workers(2, **settings)
        await wait_until(lambda: len(gateway.logs("issuer_keys_changed")) == 2)
        now = int(time.time())
        headers = {"Authorization": f"Bearer {issuer.token(iat=now, nbf=now, exp=now + 600)}", "Connection": "close"}
        for _ in range(6):
            async with session.post(f"{gateway.url}/run", json=dict(PROMPT_STUDIO_BODY), headers=headers) as answer:
                assert 200 == answer.status, await answer.text()
        samples = await gateway.metrics()
        assert 2 == metric_sum(samples, "runward_issuer_fetches_total", issuer="test", result="ok")
        assert (
            time.time() - 60
            < metric_sum(samples, "runward_issuer_keys_timestamp_seconds", issuer="test")
            <= time.time()
        )
        assert await offered(session, gateway.ops_url) is None
        login: dict[str, Any] = {"issuer": "test", "client_id": "console", "url": "http://localhost:9090"}
        login |= {"roles": {"claim": "groups", "operator": ["platform"]}}
        config = gateway_config(upstream.url, upstream.url, **settings, console={"login": login})
        replace_file(gateway.config, yaml.safe_dump(config))
        async with asyncio.timeout(20):
            while await offered(session, gateway.ops_url) != "test":
                await asyncio.sleep(0.1)
        async with session.get(f"{gateway.ops_url}/api/runs") as answer:
            assert 401 == answer.status
