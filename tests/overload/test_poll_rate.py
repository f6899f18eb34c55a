"""Many PromptLayer runs at once: asking about them stays within what the provider allows, and all are seen to end."""

from __future__ import annotations

import itertools
import time
from bisect import bisect_left
from functools import partial
from typing import TYPE_CHECKING

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
    from collections.abc import Sequence

    from providers.contract import JsonValue
    from tests.conftest import StartGateway
    from tests.support.client import PostRun
    from tests.support.fake_upstream.connection import UpstreamConnection
    from tests.support.fake_upstream.upstream import FakeUpstream

RUNS = 500
RATE, BURST = 250, 25
RUN_SECONDS = 1.0  # seconds: each run


class FakeExecutions:
    """Runs that are done `LASTS` seconds after their start, by the ids that they were given."""

    def __init__(self) -> None:
        self._ids = itertools.count(1)
        self._started: dict[str, float] = {}

    async def start(self, connection: UpstreamConnection) -> None:
        """Begin one."""
        number = next(self._ids)
        self._started[str(number)] = time.monotonic()
        await promptlayer_started(number)(connection)

    async def results(self, connection: UpstreamConnection) -> None:
        """Say whether it is done, and which it was."""
        assert connection.request is not None
        number = connection.request.target.partition("workflow_version_execution_id=")[2].partition("&")[0]
        running = time.monotonic() < self._started[number] + RUN_SECONDS
        answer = promptlayer_running() if running else promptlayer_done({"Answer": node(number)})
        await answer(connection)


def max_per_second(timestamps: Sequence[float]) -> int:
    """How many of these moments, in order, the fullest second holds."""
    return max(bisect_left(timestamps, moment + 1.0) - at for at, moment in enumerate(timestamps))


async def test_polls_of_many_runs_stay_within_the_providers_rate(
    upstream: FakeUpstream, gateway: StartGateway, run: PostRun
) -> None:
    """R89 with polls: 500 runs in flight, no second holds more calls than rate and burst, each sees its own result."""
    executions = FakeExecutions()
    upstream.always("POST", LAYER_RUN, executions.start)
    upstream.always("GET", LAYER_RESULTS, executions.results)
    limits: JsonValue = {"rate": f"{RATE}/s", "burst": BURST, "concurrency": RUNS, "max_wait": "30s"}
    workflow: JsonValue = {"layer": {"timeout": "30s", "max_timeout": "30s"}}
    running = await gateway(providers={"promptlayer": {"limits": limits}}, workflows=workflow)
    answers = await concurrently(RUNS, partial(run, running, PROMPTLAYER_BODY))
    assert {None: RUNS} == count_codes(answers)
    assert [answered.json["provider_run_id"] for answered in answers] == [a.json["output"] for a in answers]
    assert RUNS == len({str(answered.json["output"]) for answered in answers}) == len(upstream.requests("POST"))
    timestamps = sorted(request.complete_at for request in upstream.received)
    assert max_per_second(timestamps) <= 1.05 * (RATE + BURST)  # a busy machine may deliver some of them together
    assert len(timestamps) >= 0.8 * RATE * (timestamps[-1] - timestamps[0]), "it is used, too"
    assert len(timestamps) == metric_sum(await running.metrics(), "runward_upstream_calls_total")
