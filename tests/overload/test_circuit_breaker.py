"""Circuit breaker and retry budget end to end: calls of a failing provider, counted at the fake upstream."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING

import pytest

from tests.support.client import PROMPT_STUDIO_BODY, PROMPTLAYER_BODY
from tests.support.configuration import gateway_config
from tests.support.fake_upstream import faults
from tests.support.fake_upstream.provider_responses import STUDIO_RUN, prompt_studio_reply
from tests.support.fake_upstream.responses import reply
from tests.support.fake_upstream.upstream import closed_port
from tests.support.load_generator import at_constant_rate, concurrently, count_codes, median, total_attempts
from tests.support.process import metric_sum

if TYPE_CHECKING:
    from collections.abc import Mapping

    import aiohttp

    from providers.contract import JsonValue
    from tests.conftest import StartGateway
    from tests.support.client import PostRun
    from tests.support.fake_upstream.upstream import FakeUpstream

pytestmark = pytest.mark.slow

DONE = prompt_studio_reply({"completion": "because"})
NEVER_OPENS: JsonValue = {"failures": 1_000_000}
BAD_WORKFLOW: Mapping[str, JsonValue] = {"workflow": "bad"}
BAD_RUN = "/v1/workflows/dep_bad/run"
TWO_WORKFLOWS: JsonValue = {"bad": {"provider": "prompt_studio", "name": "dep_bad", "timeout": "3s"}}


async def test_retries_are_a_fifth_of_the_traffic(upstream: FakeUpstream, gateway: StartGateway, run: PostRun) -> None:
    """R22 for 4 s at 50 a second: a provider that throttles or refuses connections sees 20 % and 3 more, not 300 %.

    Refused connections only the gateway can count: its answers and its metrics agree. The rest the fake counts.
    """
    upstream.default = reply(429, {})
    with closed_port() as url:
        throttled, refused = await asyncio.gather(
            gateway(breaker=NEVER_OPENS), gateway(gateway_config(url, url, breaker=NEVER_OPENS))
        )
        answers = await asyncio.gather(
            *(at_constant_rate(50, 4, partial(run, each, PROMPT_STUDIO_BODY)) for each in (throttled, refused))
        )
    assert [{"upstream_throttled": 200}, {"upstream_unreachable": 200}] == [count_codes(each) for each in answers]
    counted = [len(upstream.received), metric_sum(await refused.metrics(), "runward_upstream_calls_total")]
    assert counted == [total_attempts(each) for each in answers]
    assert [] == [count for count in counted if not 0.15 * 200 <= count - 200 <= 0.2 * 200 + 3]


async def test_a_failing_provider_is_not_called_while_its_circuit_is_open(gateway: StartGateway, run: PostRun) -> None:
    """R23 with the default numbers: of 100 requests in 2 s only those call it that came before the third failure."""
    with closed_port() as url:
        running = await gateway(gateway_config(url, url))
        answers = await at_constant_rate(50, 2, partial(run, running, PROMPT_STUDIO_BODY))
    assert {"upstream_unreachable", "circuit_open"} == set(count_codes(answers))
    assert 3 <= total_attempts(answers) <= 30
    samples = await running.metrics()
    assert total_attempts(answers) == metric_sum(samples, "runward_upstream_calls_total")
    assert 1 == metric_sum(samples, "runward_circuit_state", workflow="studio", state="open")


async def test_a_gateway_without_providers_is_alive_and_ready(
    gateway: StartGateway, run: PostRun, session: aiohttp.ClientSession
) -> None:
    """R99: liveness and readiness do not depend on providers."""
    with closed_port() as url:
        running = await gateway(gateway_config(url, url))
        await concurrently(10, partial(run, running, PROMPT_STUDIO_BODY))
        await concurrently(10, partial(run, running, PROMPTLAYER_BODY))
        assert 2 == metric_sum(await running.metrics(), "runward_circuit_state", state="open")
        seen = []
        for base_url in (running.url, running.ops_url):
            for path in ("/healthz", "/readyz"):
                async with session.get(base_url + path) as answer:
                    seen.append(answer.status)
    assert [200] * 4 == seen


async def test_an_open_circuit_answers_faster_than_a_run(
    upstream: FakeUpstream, gateway: StartGateway, run: PostRun
) -> None:
    """R23: 503 with Retry-After and without a call; another workflow of the provider continues."""
    upstream.always("POST", STUDIO_RUN, DONE)
    upstream.always("POST", BAD_RUN, reply(502, {}))
    running = await gateway(workflows=TWO_WORKFLOWS, breaker={"cooldown": "1m"})
    await concurrently(3, partial(run, running, BAD_WORKFLOW))
    before = len(upstream.requests(path=BAD_RUN))
    good, refused = [], []
    for _ in range(50):
        good.append(await run(running, PROMPT_STUDIO_BODY))
        refused.append(await run(running, BAD_WORKFLOW))
    assert {(503, "circuit_open", "not_run")} == {answered.summary for answered in refused}
    assert all(1 <= int(answered.headers["Retry-After"]) <= 60 for answered in refused)
    assert ({200}, before) == ({answered.status for answered in good}, len(upstream.requests(path=BAD_RUN)))
    assert median(refused) < median(good)


async def test_one_trial_run_decides_and_its_failure_extends_the_cooldown(
    upstream: FakeUpstream, gateway: StartGateway, run: PostRun
) -> None:
    """R23: one probe under 100 parallel requests; it fails, so six cool-downs pass; the next succeeds and closes."""
    upstream.default = reply(502, {})
    running = await gateway(breaker={"cooldown": "300ms"}, server={"header_timeout": "30s"})  # keeps idle clients
    await concurrently(3, partial(run, running, PROMPT_STUDIO_BODY))
    await asyncio.sleep(0.4)
    for probe, cooldown in ((faults.delayed(0.3, reply(502, {})), 6 * 0.3), (faults.delayed(0.3, DONE), 0.0)):
        before = len(upstream.received)
        upstream.default = probe
        answers = await concurrently(100, partial(run, running, PROMPT_STUDIO_BODY))
        assert (1, 99) == (len(upstream.received) - before, count_codes(answers)["circuit_open"])
        await asyncio.sleep(cooldown * 0.6)
        if cooldown:
            assert "circuit_open" == (await run(running, PROMPT_STUDIO_BODY)).json["code"]
        assert 1 == len(upstream.received) - before
        await asyncio.sleep(cooldown * 0.5)
    upstream.default = DONE
    assert {None: 20} == count_codes(await concurrently(20, partial(run, running, PROMPT_STUDIO_BODY)))


async def test_4xx_responses_never_open_the_circuit(
    upstream: FakeUpstream, gateway: StartGateway, run: PostRun
) -> None:
    """R23: a 4xx is not a failure of the provider."""
    running = await gateway(retries={"attempts": 1})
    for status in (400, 401, 403, 404, 409, 422, 429):
        upstream.default = reply(status, {})
        await concurrently(10, partial(run, running, PROMPT_STUDIO_BODY))
    assert 70 == len(upstream.received)
    samples = await running.metrics()
    assert 1 == metric_sum(samples, "runward_circuit_state", workflow="studio", state="closed")
    assert 0 == metric_sum(samples, "runward_refusals_total", code="circuit_open")


async def test_an_impatient_client_does_not_open_the_circuit_for_others(
    upstream: FakeUpstream, gateway: StartGateway, run: PostRun
) -> None:
    """R23: a timeout far below the usual duration does not count as a failure."""
    upstream.default = faults.delayed(0.05, DONE)
    running = await gateway()
    hasty = await concurrently(50, partial(run, running, {**PROMPT_STUDIO_BODY, "timeout": 0.001}))
    assert {502, 504} >= {answered.status for answered in hasty}
    samples = await running.metrics()
    assert 0 < metric_sum(samples, "runward_upstream_calls_total", result="unreachable"), "some ended while connecting"
    assert 200 == (await run(running, PROMPT_STUDIO_BODY, client="two")).status


async def test_a_circuit_that_opens_meanwhile_costs_no_quota(
    upstream: FakeUpstream, gateway: StartGateway, run: PostRun
) -> None:
    """R86: of ten runs that wait for one slot three fail; the others get circuit_open and their quota back."""
    upstream.default = faults.delayed(0.05, reply(502, {}))
    running = await gateway(
        breaker={"cooldown": "500ms"},
        clients={"one": {"limits": {"daily": 1000}}},
        providers={"prompt_studio": {"limits": {"concurrency": 1}}},
    )
    answers = await concurrently(10, partial(run, running, PROMPT_STUDIO_BODY))
    assert {"upstream_error": 3, "circuit_open": 7} == count_codes(answers)
    await asyncio.sleep(0.6)
    upstream.default = DONE
    answered = await run(running, PROMPT_STUDIO_BODY)
    assert (200, 4) == (answered.status, len(upstream.received))
    assert '"daily";r=996;' in answered.headers["RateLimit"]


async def test_an_outage_of_a_minute_costs_at_most_four_attempts(
    upstream: FakeUpstream, gateway: StartGateway, run: PostRun
) -> None:
    """R22, R23: 15 requests, 4 calls, on a twentieth of the time scale.

    tests/runs/resilience/test_provider_outage.py has the real scale.
    """
    upstream.default = faults.rst_after_request
    scaled: JsonValue = {"window": "500ms", "cooldown": "500ms", "cooldown_max": "15s"}
    with closed_port() as url:
        reset, refused = await asyncio.gather(
            gateway(breaker=scaled), gateway(gateway_config(url, url, breaker=scaled))
        )
        answers = await asyncio.gather(
            *(at_constant_rate(5, 3, partial(run, each, PROMPT_STUDIO_BODY)) for each in (reset, refused))
        )
    assert [15, 15] == [len(each) for each in answers]
    assert len(upstream.received) == total_attempts(answers[0]) <= 4
    assert total_attempts(answers[1]) <= 4


async def test_a_flapping_provider_is_used_while_it_is_up(
    upstream: FakeUpstream, gateway: StartGateway, run: PostRun
) -> None:
    """R28 for 8 s: up 1 s, down 1 s: runs succeed while it is up, with at most 1.2 attempts per request."""
    upstream.default = DONE
    running = await gateway()
    async with upstream.flap(1, 1):
        answers = await at_constant_rate(40, 8, partial(run, running, PROMPT_STUDIO_BODY))
    good = sum(answered.status == 200 for answered in answers)
    assert good >= (0.5 - 0.05) * len(answers)
    assert total_attempts(answers) <= 1.2 * len(answers) + 3
