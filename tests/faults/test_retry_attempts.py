"""Retry attempts: counted, bounded and spread by jitter; counted at the fake upstream."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from typing import TYPE_CHECKING

from tests.support.client import PROMPT_STUDIO_BODY
from tests.support.configuration import gateway_config
from tests.support.fake_upstream import faults
from tests.support.fake_upstream.provider_responses import STUDIO_RUN, prompt_studio_reply
from tests.support.fake_upstream.responses import reply
from tests.support.fake_upstream.upstream import FakeUpstream
from tests.support.process import metric_sum

if TYPE_CHECKING:
    from tests.conftest import StartGateway
    from tests.support.client import PostRun
    from tests.support.fake_upstream.faults import ResponseScript

DONE = prompt_studio_reply({"completion": "because"})


async def test_gaps_between_attempts_differ_between_processes(gateway: StartGateway, run: PostRun) -> None:
    """R20: two gateways do not retry in step; tests/runs/resilience tests the bounds of each gap."""
    seen = []
    async with FakeUpstream() as first, FakeUpstream() as second:
        runs = []
        for fake in (first, second):
            fake.default = reply(429, {})
            config = gateway_config(fake.url, fake.url, retries={"attempts": 3, "backoff": "400ms"})
            runs.append((await gateway(config), PROMPT_STUDIO_BODY))
        answers = await asyncio.gather(*(run(*each) for each in runs))
        seen = [first.request_gaps(), second.request_gaps()]
    assert [(503, "upstream_throttled", "not_run")] * 2 == [answered.summary for answered in answers]
    assert [2, 2] == [len(gaps) for gaps in seen]
    assert any(abs(one - two) > 0.005 for one, two in zip(*seen, strict=True))


async def test_attempts_are_what_the_upstream_counted(
    upstream: FakeUpstream, gateway: StartGateway, run: PostRun
) -> None:
    """R21, R92: for any mix of faults, `attempts` and the metrics equal the upstream's count, at most 3."""
    rng = random.Random(21)
    refusals: list[ResponseScript] = [
        reply(429, {}),
        reply(429, {}, [("Retry-After", "0")]),
        reply(503, {}),
        reply(400, {}),
    ]
    upstream.default = reply(500, {})
    running = await gateway()
    for _ in range(40):
        before = len(upstream.received)
        ends: list[ResponseScript] = [DONE, faults.rst_after_request, faults.GARBAGE, faults.truncate(3)]
        upstream.route(lambda _: True, rng.choice(ends))
        upstream.script("POST", STUDIO_RUN, rng.choices(refusals, k=rng.randint(0, 2)))
        answered = await run(running, PROMPT_STUDIO_BODY)
        sent = len(upstream.received) - before
        assert (sent, True) == (answered.json["attempts"], sent <= 3)
    samples = await running.metrics()
    assert len(upstream.received) == metric_sum(samples, "runward_upstream_calls_total")
    assert 40 == metric_sum(samples, "runward_runs_total")
    assert 0 == metric_sum(samples, "runward_requests_in_flight")


async def test_connections_that_end_while_idle_cost_no_second_start(
    upstream: FakeUpstream, gateway: StartGateway, run: PostRun
) -> None:
    """R25: if an upstream closes idle connections at random, each run is sent at most once; a lost one is `unknown`."""
    rng = random.Random(25)
    upstream.default = faults.close_idle(DONE, lambda: rng.uniform(0, 0.004))
    running = await gateway()
    answers = []
    for first in range(0, 1000, 4):
        markers = range(first, first + 4)
        answers += await asyncio.gather(
            *(run(running, {**PROMPT_STUDIO_BODY, "input": {"marker": m}}) for m in markers)
        )
        await asyncio.sleep(rng.uniform(0, 0.004))
    sent = Counter(json.loads(request.body)["input"]["marker"] for request in upstream.received)
    assert [] == [marker for marker, count in sent.items() if count > 1]
    lost = (502, "upstream_disconnected", "unknown")
    assert set() == {a.summary for a in answers if a.status != 200} - {lost}
    assert len(upstream.connections) > 50
