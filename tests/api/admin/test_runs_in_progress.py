"""The number of runs in progress at each provider: `in_flight` of `GET /api/providers`, and the metric."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from tests.supervisor.test_workers_on_redis import WORKERS
from tests.support.client import PROMPTLAYER_BODY
from tests.support.fake_upstream.provider_responses import (
    LAYER_RESULTS,
    LAYER_RUN,
    node,
    promptlayer_done,
    promptlayer_running,
    promptlayer_started,
)
from tests.support.process import metric_sum
from tests.support.waiting import WAIT_TIMEOUT

if TYPE_CHECKING:
    import aiohttp

    from providers.contract import JsonValue
    from tests.conftest import StartGateway
    from tests.support.client import PostRun
    from tests.support.fake_upstream.upstream import FakeUpstream


@pytest.mark.parametrize("workers", [False, True], ids=["one process", "two workers"])
async def test_runs_are_counted_from_their_start_to_their_end(
    gateway: StartGateway,
    upstream: FakeUpstream,
    session: aiohttp.ClientSession,
    run: PostRun,
    request: pytest.FixtureRequest,
    *,
    workers: bool,
) -> None:
    upstream.always("POST", LAYER_RUN, promptlayer_started(787))
    upstream.always("GET", LAYER_RESULTS, promptlayer_running())
    polling: JsonValue = {"first": "20ms", "max": "50ms"}
    if workers:
        url = request.getfixturevalue("valkey").url
        running = await gateway(env=WORKERS, store={"url": url}, polling=polling)
    else:
        running = await gateway(polling=polling)

    async def in_flight() -> dict[str, int]:
        async with session.get(f"{running.ops_url}/api/providers") as answer:
            return {each["provider"]: each["in_flight"] for each in (await answer.json())["providers"]}

    async def wait_for(count: int) -> None:
        async with asyncio.timeout(WAIT_TIMEOUT):
            while await in_flight() != {"promptlayer": count, "prompt_studio": 0}:
                await asyncio.sleep(0.05)

    await wait_for(0)
    for key in ("a", "b"):
        assert 202 == (await run(running, PROMPTLAYER_BODY, Idempotency_Key=key, Prefer="respond-async")).status
    await wait_for(2)
    assert 2 == metric_sum(await running.metrics(), "runward_runs_in_progress", provider="promptlayer")
    upstream.always("GET", LAYER_RESULTS, promptlayer_done({"Answer": node("because")}))
    await wait_for(0)
