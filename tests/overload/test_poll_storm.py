"""Many PromptLayer runs at once: asking about them stays within what the provider allows, and all are seen to end."""

from __future__ import annotations

import itertools
import time
from bisect import bisect_left
from functools import partial
from typing import TYPE_CHECKING

from tests.client import LAYER
from tests.faults.provider_answers import (
    LAYER_RESULTS,
    LAYER_RUN,
    node,
    promptlayer_done,
    promptlayer_running,
    promptlayer_started,
)
from tests.overload.load import at_once, codes
from tests.process import total

if TYPE_CHECKING:
    from collections.abc import Sequence

    from providers.contract import JsonValue
    from tests.client import RunWorkflow
    from tests.conftest import StartGateway
    from tests.faults.upstream import Upstream
    from tests.faults.wire import Wire

RUNS = 500
RATE, BURST = 250, 25
LASTS = 1.0  # seconds: each run


class Executions:
    """Runs that are done `LASTS` seconds after their start, by the ids that they were given."""

    def __init__(self) -> None:
        self._ids = itertools.count(1)
        self._started: dict[str, float] = {}

    async def start(self, wire: Wire) -> None:
        """Begin one."""
        number = next(self._ids)
        self._started[str(number)] = time.monotonic()
        await promptlayer_started(number)(wire)

    async def tell(self, wire: Wire) -> None:
        """Say whether it is done, and which it was."""
        assert wire.request is not None
        number = wire.request.target.partition("workflow_version_execution_id=")[2].partition("&")[0]
        running = time.monotonic() < self._started[number] + LASTS
        answer = promptlayer_running() if running else promptlayer_done({"Answer": node(number)})
        await answer(wire)


def most_in_a_second(moments: Sequence[float]) -> int:
    """How many of these moments, in order, the fullest second holds."""
    return max(bisect_left(moments, moment + 1.0) - at for at, moment in enumerate(moments))


async def test_questions_about_many_runs_stay_within_the_providers_rate(
    upstream: Upstream, gateway: StartGateway, run: RunWorkflow
) -> None:
    """R89 with polls: 500 runs in flight, no second holds more calls than rate and burst, each sees its own result."""
    executions = Executions()
    upstream.always("POST", LAYER_RUN, executions.start)
    upstream.always("GET", LAYER_RESULTS, executions.tell)
    limits: JsonValue = {"rate": f"{RATE}/s", "burst": BURST, "concurrency": RUNS, "max_wait": "30s"}
    workflow: JsonValue = {"layer": {"timeout": "30s", "max_timeout": "30s"}}
    running = await gateway(providers={"promptlayer": {"limits": limits}}, workflows=workflow)
    answers = await at_once(RUNS, partial(run, running, LAYER))
    assert {None: RUNS} == codes(answers)
    assert [answered.json["provider_run_id"] for answered in answers] == [a.json["output"] for a in answers]
    assert RUNS == len({str(answered.json["output"]) for answered in answers}) == len(upstream.requests("POST"))
    moments = sorted(request.complete_at for request in upstream.log)
    assert most_in_a_second(moments) <= 1.05 * (RATE + BURST)  # a busy machine may deliver some of them together
    assert len(moments) >= 0.8 * RATE * (moments[-1] - moments[0]), "it is used, too"
    assert len(moments) == total(await running.metrics(), "runward_upstream_calls_total")
