"""Polls of many concurrent PromptLayer runs stay within the provider's limits, and every end is observed."""

from __future__ import annotations

import itertools
import time
from functools import partial
from typing import TYPE_CHECKING

import pytest

from tests.support.client import PROMPTLAYER_BODY
from tests.support.fake_upstream.provider_responses import (
    LAYER_RESULTS,
    LAYER_RUN,
    node,
    promptlayer_done,
    promptlayer_running,
    promptlayer_started,
)
from tests.support.load_generator import concurrently, count_codes
from tests.support.process import metric_sum

if TYPE_CHECKING:
    from providers.contract import JsonValue
    from tests.conftest import StartGateway
    from tests.support.client import PostRun
    from tests.support.fake_upstream.connection import UpstreamConnection
    from tests.support.fake_upstream.upstream import FakeUpstream

pytestmark = pytest.mark.slow

RUNS = 500
RATE, BURST = 250, 25
RUN_SECONDS = 1.0  # seconds: each run


class FakeExecutions:
    """Fake executions that end `LASTS` seconds after their start, by execution id."""

    def __init__(self) -> None:
        self._ids = itertools.count(1)
        self._started: dict[str, float] = {}

    async def start(self, connection: UpstreamConnection) -> None:
        """Start an execution."""
        number = next(self._ids)
        self._started[str(number)] = time.monotonic()
        await promptlayer_started(number)(connection)

    async def results(self, connection: UpstreamConnection) -> None:
        """Return the state of an execution."""
        assert connection.request is not None
        number = connection.request.target.partition("workflow_version_execution_id=")[2].partition("&")[0]
        running = time.monotonic() < self._started[number] + RUN_SECONDS
        answer = promptlayer_running() if running else promptlayer_done({"Answer": node(number)})
        await answer(connection)


async def test_polls_of_many_runs_stay_within_the_providers_rate(
    upstream: FakeUpstream, gateway: StartGateway, run: PostRun
) -> None:
    """R89 with polls: 500 runs in flight, never more calls than rate and burst allow; each sees its own result."""
    executions = FakeExecutions()
    upstream.always("POST", LAYER_RUN, executions.start)
    upstream.always("GET", LAYER_RESULTS, executions.results)
    limits: JsonValue = {"rate": f"{RATE}/s", "burst": BURST, "concurrency": RUNS, "max_wait": "30s"}
    workflow: JsonValue = {"layer": {"timeout": "60s", "max_timeout": "60s"}}
    running = await gateway(providers={"promptlayer": {"limits": limits}}, workflows=workflow)
    began = time.monotonic()
    answers = await concurrently(RUNS, partial(run, running, PROMPTLAYER_BODY))
    assert {None: RUNS} == count_codes(answers)
    assert [answered.json["provider_run_id"] for answered in answers] == [a.json["output"] for a in answers]
    assert RUNS == len({str(answered.json["output"]) for answered in answers}) == len(upstream.requests("POST"))
    timestamps = sorted(request.complete_at for request in upstream.received)
    assert [] == [n for n, at in enumerate(timestamps, 1) if n > BURST + RATE * (at - began) + 1]
    assert len(timestamps) == metric_sum(await running.metrics(), "runward_upstream_calls_total")
