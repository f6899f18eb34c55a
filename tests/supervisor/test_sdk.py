"""The official PromptLayer SDK before several workers: one takes its start, another holds the socket it waits on."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.configuration import SECRETS
from tests.conftest import StartGateway
from tests.faults.provider_answers import (
    LAYER_RESULTS,
    LAYER_RUN,
    node,
    promptlayer_done,
    promptlayer_running,
    promptlayer_started,
)
from tests.faults.upstream import Upstream
from tests.faults.wire import Wire
from tests.process import Gateway
from tests.sdk.sdks import PYTHON, Made, Sdk
from tests.valkey import Valkey, running_server

WORKERS = {**SECRETS, "RUNWARD_WORKERS": "3"}
RUNS = 20


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[Valkey]:
    """A server of the test's own."""
    with running_server(tmp_path / "valkey") as server:
        yield server


def takers(gateway: Gateway, route: str) -> set[object]:
    """The workers that answered requests to it."""
    return {line["worker"] for line in gateway.logs("request") if line["route"] == route}


@pytest.mark.parametrize("sdk", PYTHON[:2], ids=lambda sdk: sdk.name)
async def test_twenty_runs_at_once_all_succeed(
    sdk: Sdk, valkey: Valkey, upstream: Upstream, gateway: StartGateway
) -> None:
    """Each is started once, and its end is told wherever its client listens."""
    ended = asyncio.Event()

    async def poll(wire: Wire) -> None:
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
        await asyncio.sleep(0.5)  # for the last of them to say what it waits for
    ended.set()
    assert [Made("because")] * RUNS == await calls
    assert RUNS == len(upstream.requests("POST"))
    assert len(takers(running, "promptlayer_run") | takers(running, "promptlayer_socket")) >= 2
