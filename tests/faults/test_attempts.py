"""Attempts are counted, bounded and spread in time; the fake upstream is the judge."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from typing import TYPE_CHECKING

from tests.client import STUDIO
from tests.configuration import gateway_config
from tests.faults import faults
from tests.faults.answers import reply
from tests.faults.provider_answers import STUDIO_RUN, prompt_studio_reply
from tests.faults.upstream import Upstream
from tests.process import total

if TYPE_CHECKING:
    from tests.client import RunWorkflow
    from tests.conftest import StartGateway
    from tests.faults.faults import Script

DONE = prompt_studio_reply({"completion": "because"})


async def test_gaps_between_attempts_are_bounded_and_differ_between_processes(
    gateway: StartGateway, run: RunWorkflow
) -> None:
    """R20: each gap lies in [0, cap(n)], and two gateways that start together do not move in step."""
    seen = []
    async with Upstream() as first, Upstream() as second:
        runs = []
        for fake in (first, second):
            fake.default = reply(429, {})
            config = gateway_config(fake.url, fake.url, retries={"attempts": 3, "backoff": "400ms"})
            runs.append((await gateway(config), STUDIO))
        answers = await asyncio.gather(*(run(*each) for each in runs))
        seen = [first.gaps(), second.gaps()]
    assert [(503, "upstream_throttled", "not_run")] * 2 == [answered.summary for answered in answers]
    for one, two in seen:
        assert 0 <= one <= 0.4 + 0.1
        assert 0 <= two <= 0.8 + 0.1
    assert any(abs(one - two) > 0.005 for one, two in zip(*seen, strict=True))


async def test_attempts_are_what_the_upstream_counted(
    upstream: Upstream, gateway: StartGateway, run: RunWorkflow
) -> None:
    """R21, R92: over any mix of faults `attempts` is the fake's count and at most 3, and the metrics agree."""
    mix = random.Random(21)
    refusals: list[Script] = [reply(429, {}), reply(429, {}, [("Retry-After", "0")]), reply(503, {}), reply(400, {})]
    upstream.default = reply(500, {})
    running = await gateway()
    for _ in range(40):
        before = len(upstream.log)
        ends: list[Script] = [DONE, faults.rst_after_request, faults.GARBAGE, faults.truncate(3)]
        upstream.route(lambda _: True, mix.choice(ends))
        upstream.script("POST", STUDIO_RUN, mix.choices(refusals, k=mix.randint(0, 2)))
        answered = await run(running, STUDIO)
        sent = len(upstream.log) - before
        assert (sent, True) == (answered.json["attempts"], sent <= 3)
    samples = await running.metrics()
    assert len(upstream.log) == total(samples, "runward_upstream_calls_total")
    assert 40 == total(samples, "runward_runs_total")
    assert 0 == total(samples, "runward_requests_in_flight")


async def test_connections_that_end_while_idle_cost_no_second_start(
    upstream: Upstream, gateway: StartGateway, run: RunWorkflow
) -> None:
    """R25: an upstream that closes idle connections at random sees each run once at most; a lost one is `unknown`."""
    chance = random.Random(25)
    upstream.default = faults.close_idle(DONE, lambda: chance.uniform(0, 0.004))
    running = await gateway()
    answers = []
    for first in range(0, 1000, 4):
        markers = range(first, first + 4)
        answers += await asyncio.gather(*(run(running, {**STUDIO, "input": {"marker": m}}) for m in markers))
        await asyncio.sleep(chance.uniform(0, 0.004))
    sent = Counter(json.loads(request.body)["input"]["marker"] for request in upstream.log)
    assert [] == [marker for marker, count in sent.items() if count > 1]
    lost = (502, "upstream_disconnected", "unknown")
    assert set() == {a.summary for a in answers if a.status != 200} - {lost}
    assert len(upstream.connections) > 50
