"""Official PromptLayer SDK with several workers: start and WebSocket may be at different workers."""

from __future__ import annotations

import asyncio

import pytest

from tests.conftest import StartGateway
from tests.sdk.official_sdks import PYTHON, OfficialSdk, SdkResult
from tests.support.configuration import PROVIDER_SECRETS
from tests.support.fake_upstream.connection import UpstreamConnection
from tests.support.fake_upstream.provider_responses import (
    LAYER_RESULTS,
    LAYER_RUN,
    node,
    promptlayer_done,
    promptlayer_running,
    promptlayer_started,
)
from tests.support.fake_upstream.upstream import FakeUpstream
from tests.support.process import GatewayProcess
from tests.support.valkey import ValkeyServer

WORKERS = {**PROVIDER_SECRETS, "RUNWARD_WORKERS": "3"}
RUNS = 20


def workers_of_route(gateway: GatewayProcess, route: str) -> set[object]:
    """Return the workers that answered requests of the route."""
    return {line["worker"] for line in gateway.logs("request") if line["route"] == route}


@pytest.mark.parametrize("sdk", PYTHON[:2], ids=lambda sdk: sdk.name)
async def test_twenty_runs_at_once_all_succeed(
    sdk: OfficialSdk, valkey: ValkeyServer, upstream: FakeUpstream, gateway: StartGateway
) -> None:
    """Each run is started once, and its end reaches the worker of its client."""
    ended = asyncio.Event()

    async def poll(wire: UpstreamConnection) -> None:
        await (promptlayer_done({"Answer": node("because")}) if ended.is_set() else promptlayer_running())(wire)

    upstream.always("POST", LAYER_RUN, promptlayer_started(77))
    upstream.always("GET", LAYER_RESULTS, poll)
    running = await gateway(
        env=WORKERS, store={"url": valkey.url}, workflows={"layer": {"timeout": "30s", "max_timeout": "30s"}}
    )
    calls = asyncio.create_task(sdk.run(running.url, *([{"workflow_id_or_name": "layer"}] * RUNS), pause=0.02))
    async with asyncio.timeout(60):
        while len(upstream.requests("POST")) < RUNS:
            await asyncio.sleep(0.02)
        await asyncio.sleep(0.5)  # until the last one has subscribed
    ended.set()
    assert [SdkResult("because")] * RUNS == await calls
    assert RUNS == len(upstream.requests("POST"))
    assert len(workers_of_route(running, "promptlayer_run") | workers_of_route(running, "promptlayer_socket")) >= 2
