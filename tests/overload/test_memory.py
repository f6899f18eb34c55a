"""Memory of the process while many large answers are in flight: the byte budget bounds it."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from typing import TYPE_CHECKING

import aiohttp
import pytest

from tests.support.client import PROMPT_STUDIO_BODY, auth_headers
from tests.support.fake_upstream.provider_responses import STUDIO_RUN, prompt_studio_reply
from tests.support.process import metric_sum

if TYPE_CHECKING:
    from providers.contract import JsonValue
    from tests.conftest import StartGateway
    from tests.support.fake_upstream.upstream import FakeUpstream
    from tests.support.process import GatewayProcess

pytestmark = pytest.mark.slow

RUNS = 100
ANSWER = 9_000_000  # bytes
PEAK = 300_000_000  # bytes
BUDGET = "128MB"  # the default in a container of 512 MB


async def count_bytes(gateway: GatewayProcess) -> tuple[int, int, JsonValue]:
    """Run the workflow, and read the answer without keeping it; returns its status, size and outcome."""
    timeout = aiohttp.ClientTimeout(total=240)
    async with (
        aiohttp.ClientSession(timeout=timeout) as session,
        session.post(gateway.url + "/run", json=dict(PROMPT_STUDIO_BODY), headers=auth_headers("one")) as answer,
    ):
        first = await answer.content.readany()
        size = len(first)
        while chunk := await answer.content.readany():
            size += len(chunk)
        return answer.status, size, None if answer.status == 200 else json.loads(first).get("outcome")


async def test_large_answers_of_many_runs_stay_within_the_memory(upstream: FakeUpstream, gateway: StartGateway) -> None:
    """100 runs at once whose answers have 9 MB: every one that was started is answered, in 300 MB."""
    upstream.always("POST", STUDIO_RUN, prompt_studio_reply({"completion": "x" * ANSWER}))
    running = await gateway(
        server={"max_bytes_in_flight": BUDGET, "header_timeout": "20s"},
        providers={"prompt_studio": {"max_response": "10MB"}},
        workflows={"studio": {"timeout": "120s", "max_timeout": "120s"}},
    )
    statuses: Counter[int] = Counter()
    for _ in range(2):  # at first the size of the answers is not known, then it is
        upstream.received.clear()
        answers = await asyncio.gather(*(count_bytes(running) for _ in range(RUNS)))
        statuses = Counter(status for status, _, _ in answers)
        assert {200} <= set(statuses) <= {200, 503}
        assert statuses[200] == len(upstream.received), "a run that was started is answered"
        assert [] == [size for status, size, _ in answers if status == 200 and size < ANSWER]
        assert {"not_run"} >= {outcome for status, _, outcome in answers if status == 503}
    assert statuses[503] > 0, "the surplus is refused before its start"
    assert running.peak_rss_bytes() < PEAK
    assert 0 == metric_sum(await running.metrics(), "runward_bytes_in_flight")
