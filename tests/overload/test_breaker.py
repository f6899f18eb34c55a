"""A provider that is down is not hammered: budget and breaker, seen from outside, as the fake upstream counts."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING

from tests.client import LAYER, STUDIO
from tests.configuration import gateway_config
from tests.faults import faults
from tests.faults.answers import reply
from tests.faults.provider_answers import STUDIO_RUN, prompt_studio_reply
from tests.faults.upstream import closed_port
from tests.overload.load import at_once, attempts, codes, median, steadily
from tests.process import total

if TYPE_CHECKING:
    from collections.abc import Mapping

    import aiohttp

    from providers.contract import JsonValue
    from tests.client import RunWorkflow
    from tests.conftest import StartGateway
    from tests.faults.upstream import Upstream

DONE = prompt_studio_reply({"completion": "because"})
NEVER_OPENS: JsonValue = {"failures": 1_000_000}
BAD: Mapping[str, JsonValue] = {"workflow": "bad"}
BAD_RUN = "/v1/workflows/dep_bad/run"
TWO_WORKFLOWS: JsonValue = {"bad": {"provider": "prompt_studio", "name": "dep_bad", "timeout": "3s"}}


async def test_retries_are_a_fifth_of_the_traffic(upstream: Upstream, gateway: StartGateway, run: RunWorkflow) -> None:
    """R22 for 4 s at 50 a second: a provider that throttles or refuses connections sees 20 % and 3 more, not 300 %.

    Refused connections only the gateway can count: its answers and its metrics agree. The rest the fake counts.
    """
    upstream.default = reply(429, {})
    with closed_port() as url:
        throttled, refused = await asyncio.gather(
            gateway(breaker=NEVER_OPENS), gateway(gateway_config(url, url, breaker=NEVER_OPENS))
        )
        answers = await asyncio.gather(*(steadily(50, 4, partial(run, each, STUDIO)) for each in (throttled, refused)))
    assert [{"upstream_throttled": 200}, {"upstream_unreachable": 200}] == [codes(each) for each in answers]
    counted = [len(upstream.log), total(await refused.metrics(), "runward_upstream_calls_total")]
    assert counted == [attempts(each) for each in answers]
    assert [] == [count for count in counted if not 0.15 * 200 <= count - 200 <= 0.2 * 200 + 3]


async def test_a_dead_provider_is_left_alone(gateway: StartGateway, run: RunWorkflow) -> None:
    """R23 with the default numbers: of 100 requests in 2 s only those call it that came before the third failure."""
    with closed_port() as url:
        running = await gateway(gateway_config(url, url))
        answers = await steadily(50, 2, partial(run, running, STUDIO))
    assert {"upstream_unreachable", "circuit_open"} == set(codes(answers))
    assert 3 <= attempts(answers) <= 10
    samples = await running.metrics()
    assert attempts(answers) == total(samples, "runward_upstream_calls_total")
    assert 1 == total(samples, "runward_circuit_state", workflow="studio", state="open")


async def test_a_gateway_without_providers_is_alive_and_ready(
    gateway: StartGateway, run: RunWorkflow, session: aiohttp.ClientSession
) -> None:
    """R99: nobody restarts it or sends its requests elsewhere because all that is behind it is down."""
    with closed_port() as url:
        running = await gateway(gateway_config(url, url))
        await at_once(10, partial(run, running, STUDIO))
        await at_once(10, partial(run, running, LAYER))
        assert 2 == total(await running.metrics(), "runward_circuit_state", state="open")
        seen = []
        for place in (running.url, running.ops_url):
            for path in ("/healthz", "/readyz"):
                async with session.get(place + path) as answer:
                    seen.append(answer.status)
    assert [200] * 4 == seen


async def test_an_open_circuit_answers_faster_than_a_run(
    upstream: Upstream, gateway: StartGateway, run: RunWorkflow
) -> None:
    """R23: 503 with Retry-After, without a call and without its time; another workflow there goes on."""
    upstream.always("POST", STUDIO_RUN, DONE)
    upstream.always("POST", BAD_RUN, reply(502, {}))
    running = await gateway(workflows=TWO_WORKFLOWS, breaker={"cooldown": "1m"})
    await at_once(3, partial(run, running, BAD))
    before = len(upstream.requests(path=BAD_RUN))
    good, refused = [], []
    for _ in range(50):
        good.append(await run(running, STUDIO))
        refused.append(await run(running, BAD))
    assert {(503, "circuit_open", "not_run")} == {answered.summary for answered in refused}
    assert all(1 <= int(answered.headers["Retry-After"]) <= 60 for answered in refused)
    assert ({200}, before) == ({answered.status for answered in good}, len(upstream.requests(path=BAD_RUN)))
    assert median(refused) < median(good)


async def test_one_run_tries_for_all_and_a_failure_opens_for_longer(
    upstream: Upstream, gateway: StartGateway, run: RunWorkflow
) -> None:
    """R23: one probe under 100 parallel requests; it fails, so six cool-downs pass; the next succeeds and closes."""
    upstream.default = reply(502, {})
    running = await gateway(breaker={"cooldown": "300ms"}, server={"header_timeout": "30s"})  # keeps idle clients
    await at_once(3, partial(run, running, STUDIO))
    await asyncio.sleep(0.4)
    for probe, cooldown in ((faults.after(0.3, reply(502, {})), 6 * 0.3), (faults.after(0.3, DONE), 0.0)):
        before = len(upstream.log)
        upstream.default = probe
        answers = await at_once(100, partial(run, running, STUDIO))
        assert (1, 99) == (len(upstream.log) - before, codes(answers)["circuit_open"])
        await asyncio.sleep(cooldown * 0.6)
        if cooldown:
            assert "circuit_open" == (await run(running, STUDIO)).json["code"]
        assert 1 == len(upstream.log) - before
        await asyncio.sleep(cooldown * 0.5)
    upstream.default = DONE
    assert {None: 20} == codes(await at_once(20, partial(run, running, STUDIO)))


async def test_what_a_provider_turns_away_never_opens_its_circuit(
    upstream: Upstream, gateway: StartGateway, run: RunWorkflow
) -> None:
    """R23: a provider that answers 4xx does its part, however often."""
    running = await gateway(retries={"attempts": 1})
    for status in (400, 401, 403, 404, 409, 422, 429):
        upstream.default = reply(status, {})
        await at_once(10, partial(run, running, STUDIO))
    assert 70 == len(upstream.log)
    samples = await running.metrics()
    assert 1 == total(samples, "runward_circuit_state", workflow="studio", state="closed")
    assert 0 == total(samples, "runward_refusals_total", code="circuit_open")


async def test_an_impatient_client_does_not_open_the_circuit_for_others(
    upstream: Upstream, gateway: StartGateway, run: RunWorkflow
) -> None:
    """R23: who waits a millisecond where three seconds are usual learns nothing about the provider."""
    upstream.default = faults.after(0.05, DONE)
    running = await gateway()
    hasty = await at_once(50, partial(run, running, {**STUDIO, "timeout": 0.001}))
    assert {502, 504} >= {answered.status for answered in hasty}
    samples = await running.metrics()
    assert 0 < total(samples, "runward_upstream_calls_total", result="unreachable"), "some ended while connecting"
    assert 200 == (await run(running, STUDIO, client="two")).status


async def test_a_circuit_that_opens_meanwhile_costs_no_quota(
    upstream: Upstream, gateway: StartGateway, run: RunWorkflow
) -> None:
    """R86: of ten that wait for one slot three fail; the others meet an open circuit, and their charges go back."""
    upstream.default = faults.after(0.05, reply(502, {}))
    running = await gateway(
        breaker={"cooldown": "500ms"},
        clients={"one": {"limits": {"daily": 1000}}},
        providers={"prompt_studio": {"limits": {"concurrency": 1}}},
    )
    answers = await at_once(10, partial(run, running, STUDIO))
    assert {"upstream_error": 3, "circuit_open": 7} == codes(answers)
    await asyncio.sleep(0.6)
    upstream.default = DONE
    answered = await run(running, STUDIO)
    assert (200, 4) == (answered.status, len(upstream.log))
    assert '"daily";r=996;' in answered.headers["RateLimit"]


async def test_an_outage_of_a_minute_costs_at_most_four_attempts(
    upstream: Upstream, gateway: StartGateway, run: RunWorkflow
) -> None:
    """R22, R23 on a twentieth of the time scale (tests/runs/test_outage.py has the real one): 15 requests, 4 calls."""
    upstream.default = faults.rst_after_request
    scaled: JsonValue = {"window": "500ms", "cooldown": "500ms", "cooldown_max": "15s"}
    with closed_port() as url:
        reset, refused = await asyncio.gather(
            gateway(breaker=scaled), gateway(gateway_config(url, url, breaker=scaled))
        )
        answers = await asyncio.gather(*(steadily(5, 3, partial(run, each, STUDIO)) for each in (reset, refused)))
    assert [15, 15] == [len(each) for each in answers]
    assert len(upstream.log) == attempts(answers[0]) <= 4
    assert attempts(answers[1]) <= 4


async def test_a_flapping_provider_is_used_while_it_is_up(
    upstream: Upstream, gateway: StartGateway, run: RunWorkflow
) -> None:
    """R28 for 8 s: up 1 s, down 1 s: as many runs succeed as it is up for, at 1.2 attempts a request at most."""
    upstream.default = DONE
    running = await gateway()
    async with upstream.flap(1, 1):
        answers = await steadily(40, 8, partial(run, running, STUDIO))
    good = sum(answered.status == 200 for answered in answers)
    assert good >= (0.5 - 0.05) * len(answers)
    assert attempts(answers) <= 1.2 * len(answers) + 3
