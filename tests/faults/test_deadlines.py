"""One deadline bounds everything: no byte, wait or retry extends it."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

import pytest

from tests.support.configuration import gateway_config
from tests.support.fake_upstream import faults
from tests.support.fake_upstream.provider_responses import (
    LAYER_RESULTS,
    LAYER_RUN,
    promptlayer_running,
    promptlayer_started,
)
from tests.support.fake_upstream.responses import reply
from tests.support.fake_upstream.upstream import unresponsive_port
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from providers.contract import JsonValue
    from tests.conftest import StartGateway
    from tests.support.client import PostRun, ReceivedResponse
    from tests.support.fake_upstream.faults import ResponseScript
    from tests.support.fake_upstream.upstream import FakeUpstream

pytestmark = pytest.mark.shared_gateway

_MINUTE: JsonValue = {"timeout": "60s", "max_timeout": "60s"}
PATIENT: JsonValue = {"studio": _MINUTE, "layer": _MINUTE}
"""Nothing but the client's own deadline ends a run before `LATE`."""
LATE = 20.0
"""Seconds: far more than a busy machine adds to a deadline, and far less than `PATIENT` allows."""


async def test_a_silent_upstream_is_disconnected_at_the_deadline(
    upstream: FakeUpstream, gateway: StartGateway, run: PostRun
) -> None:
    """R07: 504 at the deadline, one request, and the upstream sees the end of its connection."""
    upstream.default = faults.hang
    answered = await run(await gateway(workflows=PATIENT), {"workflow": "studio", "timeout": 1})
    assert (504, "upstream_timeout", "unknown") == answered.summary
    assert 0.95 <= answered.elapsed < LATE
    [request] = upstream.received
    await wait_until(lambda: request.connection.eof_at is not None)


@pytest.mark.parametrize("script", [faults.drip(10), faults.drip(10, head_first=False)], ids=["body", "head"])
async def test_bytes_do_not_extend_the_deadline(
    upstream: FakeUpstream, gateway: StartGateway, run: PostRun, script: ResponseScript
) -> None:
    """R08: a response sent byte by byte ends at the deadline, in its head or its body."""
    upstream.default = script
    answered = await run(await gateway(workflows=PATIENT), {"workflow": "studio", "timeout": 1})
    assert (504, "upstream_timeout", "unknown") == answered.summary
    assert 0.95 <= answered.elapsed < LATE
    assert 1 == len(upstream.received)


async def test_a_clients_timeout_is_kept_over_many_samples(
    upstream: FakeUpstream, gateway: StartGateway, run: PostRun
) -> None:
    """R29: none of 30 timeouts ends early, and each ends before one that is half a second longer."""
    upstream.default = faults.hang
    running = await gateway(workflows=PATIENT)
    rng = random.Random(29)
    timeouts = [round(rng.uniform(0.8, 2.5), 2) for _ in range(30)]
    ended: list[float] = []

    async def run_for(seconds: float) -> ReceivedResponse:
        answered = await run(running, {"workflow": "studio", "timeout": seconds})
        ended.append(seconds)
        return answered

    answers = await asyncio.gather(*(run_for(seconds) for seconds in timeouts))
    assert {(504, "upstream_timeout", "unknown")} == {answered.summary for answered in answers}
    assert [] == [(a.elapsed, t) for a, t in zip(answers, timeouts, strict=True) if a.elapsed < 0.95 * t]
    assert [] == [(longer, t) for at, longer in enumerate(ended) for t in ended[at:] if t + 0.5 < longer]


async def test_a_clients_timeout_is_clamped_to_the_workflows_maximum(
    upstream: FakeUpstream, gateway: StartGateway, run: PostRun
) -> None:
    """R29: a longer timeout of a client is reduced to the maximum."""
    upstream.default = faults.hang
    running = await gateway(workflows={"studio": {"timeout": "500ms", "max_timeout": "1s"}})
    answered = await run(running, {"workflow": "studio", "timeout": 60})
    assert (504, "upstream_timeout", "unknown") == answered.summary
    assert 0.95 <= answered.elapsed < LATE


async def test_back_off_is_inside_the_deadline(upstream: FakeUpstream, gateway: StartGateway, run: PostRun) -> None:
    """R29: at the deadline the client gets the cause of the last attempt, and that nothing ran."""
    upstream.default = reply(429, {})
    running = await gateway(retries={"attempts": 10, "backoff": "30s", "backoff_max": "30s"}, workflows=PATIENT)
    answered = await run(running, {"workflow": "studio", "timeout": 1})
    assert (503, "upstream_throttled", "not_run") == answered.summary
    assert answered.elapsed < LATE


async def test_connecting_is_inside_the_deadline(gateway: StartGateway, run: PostRun) -> None:
    """R29: a hanging connect ends at the deadline, even before the connect timeout."""
    with unresponsive_port() as url:
        config = gateway_config(url, url, providers={"prompt_studio": {"connect_timeout": "60s"}}, workflows=PATIENT)
        answered = await run(await gateway(config), {"workflow": "studio", "timeout": 1})
    assert "not_run" == answered.json["outcome"]
    assert answered.status in {502, 504}
    assert 0.95 <= answered.elapsed < LATE


async def test_polling_is_inside_the_deadline(upstream: FakeUpstream, gateway: StartGateway, run: PostRun) -> None:
    """R29: the outcome of a run that continues at the provider is `unknown` at the deadline."""
    upstream.always("POST", LAYER_RUN, promptlayer_started(787))
    upstream.always("GET", LAYER_RESULTS, promptlayer_running())
    answered = await run(await gateway(workflows=PATIENT), {"workflow": "layer", "timeout": 1})
    assert (504, "unknown", 1) == (answered.status, answered.json["outcome"], len(upstream.requests("POST")))
    assert 0.9 <= answered.elapsed < LATE
