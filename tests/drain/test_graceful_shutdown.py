"""Graceful shutdown: SIGTERM under load, end of the grace period, second signal."""

from __future__ import annotations

import asyncio
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING

import pytest

from tests.drain.load_balancer import LoadBalancer
from tests.support.client import PROMPT_STUDIO_BODY, PROMPTLAYER_BODY
from tests.support.configuration import PROVIDER_SECRETS
from tests.support.fake_upstream import faults
from tests.support.fake_upstream.provider_responses import (
    LAYER_RESULTS,
    LAYER_RUN,
    STUDIO_RUN,
    node,
    prompt_studio_reply,
    promptlayer_done,
    promptlayer_running,
    promptlayer_started,
)
from tests.support.gateway_restarts import RestartableGateway
from tests.support.load_generator import at_constant_rate
from tests.support.raw_client import build_run, raw_connection
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from pathlib import Path

    import aiohttp

    from providers.contract import JsonValue
    from tests.conftest import StartGateway
    from tests.support.client import PostRun
    from tests.support.fake_upstream.upstream import FakeUpstream


@pytest.fixture
def gateways(gateway: StartGateway, session: aiohttp.ClientSession, tmp_path: Path) -> RestartableGateway:
    """Gateways on one store file, not started; runs last longer than the grace period."""
    return RestartableGateway(gateway, session, tmp_path / "runward.db", workflows=LONG_TIMEOUTS)


DONE = prompt_studio_reply({"completion": "because"})
RATE = 100.0  # requests a second: what two gateways, their clients and their provider can do on two busy cores
LONG_TIMEOUTS: dict[str, JsonValue] = {name: {"timeout": "60s", "max_timeout": "60s"} for name in ("studio", "layer")}
ONE_AT_A_TIME: JsonValue = {"prompt_studio": {"limits": {"concurrency": 1, "max_wait": "50s"}}}
SLOW: JsonValue = {"provider": "prompt_studio", "name": "dep_slow", "timeout": "20s"}
SHORT_GRACE: dict[str, JsonValue] = {"drain": "100ms", "grace": "1s"}


async def test_a_rolling_stop_behind_a_load_balancer_fails_no_request(
    upstream: FakeUpstream, gateway: StartGateway, session: aiohttp.ClientSession, run: PostRun
) -> None:
    """R97: readiness is 503 at once, the port stays open for `drain`, runs in flight succeed, the exit code is 0."""
    upstream.default = faults.delayed(0.05, DONE)
    upstream.always("POST", "/v1/workflows/dep_slow/run", faults.delayed(3, DONE))
    settings: dict[str, JsonValue] = {"server": {"drain": "1s"}, "workflows": {"slow": SLOW}}
    stopping, staying = await asyncio.gather(*(gateway(None, PROVIDER_SECRETS, **settings) for _ in range(2)))
    async with LoadBalancer(session, [stopping, staying]) as balancer:
        load = asyncio.create_task(at_constant_rate(RATE, 5, balancer.send))
        await asyncio.sleep(1.5)
        slow = asyncio.create_task(run(stopping, {**PROMPT_STUDIO_BODY, "workflow": "slow"}))
        await wait_until(partial(upstream.requests, "POST", "/v1/workflows/dep_slow/run"))
        stopping.terminate()
        await wait_until(partial(stopping.logs, "draining"))
        async with session.get(stopping.url + "/readyz") as ready, raw_connection(stopping.url) as late:
            assert (503, "close") == (ready.status, ready.headers["Connection"])
            await late.send(build_run())
            answer = await late.read_response()
            assert (200, "close") == (answer.status, answer.header("Connection"))
            await late.wait_closed()
        assert 200 == (await slow).status
        assert 0 == await stopping.wait_until_exit()
        answers = await load
    assert {200: RATE * 5} == Counter(answer.status for answer in answers)
    assert len(answers) + 2 == len(upstream.requests("POST"))
    served = [len([line for line in each.logs("request") if line["route"] == "run"]) for each in (stopping, staying)]
    assert (len(answers) + 2, True) == (sum(served), min(served) > RATE / 2)
    began, ended = (line["time"] for line in (stopping.logs("draining")[0], stopping.logs("request")[-1]))
    assert str(began) < str(ended)


async def test_runs_are_cancelled_at_the_end_of_the_grace_period(
    upstream: FakeUpstream, gateway: StartGateway, run: PostRun
) -> None:
    """R98: a client without an Idempotency-Key gets the progress of its run, and whether it may be repeated."""
    upstream.always("POST", STUDIO_RUN, faults.hang)
    upstream.always("POST", LAYER_RUN, promptlayer_started(77))
    upstream.always("GET", LAYER_RESULTS, promptlayer_running())
    running = await gateway(server=SHORT_GRACE, workflows=LONG_TIMEOUTS, providers=ONE_AT_A_TIME)
    started = asyncio.create_task(run(running, PROMPT_STUDIO_BODY))
    await wait_until(lambda: upstream.requests("POST", STUDIO_RUN) != [])
    waiting = asyncio.create_task(run(running, PROMPT_STUDIO_BODY))
    followed = asyncio.create_task(run(running, PROMPTLAYER_BODY))
    await wait_until(lambda: upstream.requests("GET") != [])
    running.terminate()
    answers = await asyncio.gather(started, waiting, followed)
    assert 0 == await running.wait_until_exit()
    assert [
        (503, "draining", "unknown", 1, False, None),
        (503, "draining", "not_run", 0, True, "1"),
        (503, "draining", "unknown", 1, False, None),
    ] == [(*a.summary, a.json["attempts"], a.json["retryable"], a.headers.get("Retry-After")) for a in answers]
    assert "77" == answers[2].json["provider_run_id"]
    assert {"close"} == {a.headers.get("Connection") for a in answers}
    assert ["unknown", "unknown", "not_run"] == sorted(
        (str(line["outcome"]) for line in running.logs("request") if line["route"] == "run"), reverse=True
    )
    assert (1, 1) == (len(upstream.requests("POST", STUDIO_RUN)), len(upstream.requests("POST", LAYER_RUN)))


async def test_a_durable_run_cut_by_the_grace_period_is_resumed(
    gateways: RestartableGateway, upstream: FakeUpstream
) -> None:
    """R98: the next gateway polls the existing execution at once; the same key returns its result."""
    upstream.script("POST", LAYER_RUN, [promptlayer_started(77), promptlayer_started(78)])
    upstream.always("GET", LAYER_RESULTS, promptlayer_running())
    first = await gateways.start(server=SHORT_GRACE)
    client_tasks = asyncio.create_task(gateways.post(PROMPTLAYER_BODY, Idempotency_Key="one"))
    accepted = await gateways.submit_async(PROMPTLAYER_BODY)
    await wait_until(lambda: len({request.target for request in upstream.requests("GET")}) == 2)
    first.terminate()
    cut = await client_tasks
    assert (503, "draining", "unknown", False) == (*cut.summary, cut.json["retryable"])
    assert "Idempotency-Key" in str(cut.json["detail"])
    assert 0 == await first.wait_until_exit()
    upstream.always("GET", LAYER_RESULTS, promptlayer_done({"Answer": node("because")}))
    second = await gateways.start()
    again = await gateways.post_until_finished(PROMPTLAYER_BODY, "one")
    assert (200, "because", "true") == (again.status, again.json["output"], again.headers["Idempotent-Replayed"])
    assert (cut.json["run_id"], cut.json["provider_run_id"]) == (again.json["id"], again.json["provider_run_id"])
    assert "succeeded" == (await gateways.wait_for_end(accepted))["status"]
    assert 2 == len(upstream.requests("POST", LAYER_RUN))
    assert str(second.logs("adopted")[0]["time"]) < str(second.logs("listening")[0]["time"])  # no lease ran on


async def test_a_start_cut_by_the_grace_period_is_not_repeated(
    gateways: RestartableGateway, upstream: FakeUpstream
) -> None:
    """R98: it may have been paid for, so its key answers `unknown`; the key of a run that was not started is free."""
    upstream.always("POST", STUDIO_RUN, faults.hang)
    first = await gateways.start(server=SHORT_GRACE, providers=ONE_AT_A_TIME)
    started = asyncio.create_task(gateways.post(PROMPT_STUDIO_BODY, Idempotency_Key="started"))
    await wait_until(lambda: len(upstream.received) == 1)
    waiting = asyncio.create_task(gateways.post(PROMPT_STUDIO_BODY, Idempotency_Key="waiting"))
    await asyncio.sleep(0.3)  # until it stands in line
    queued = await gateways.submit_async(PROMPT_STUDIO_BODY)
    first.terminate()
    answers = [(await started).summary, (await waiting).summary]
    assert [(503, "draining", "unknown"), (503, "draining", "not_run")] == answers
    assert 0 == await first.wait_until_exit()
    upstream.always("POST", STUDIO_RUN, DONE)
    await gateways.start()
    assert (502, "upstream_disconnected", "unknown") == (
        await gateways.post_until_finished(PROMPT_STUDIO_BODY, "started")
    ).summary
    assert 200 == (await gateways.post_until_finished(PROMPT_STUDIO_BODY, "waiting")).status
    assert "succeeded" == (await gateways.wait_for_end(queued))["status"]
    assert 3 == len(upstream.received)


async def test_a_second_signal_ends_it_at_once(upstream: FakeUpstream, gateway: StartGateway, run: PostRun) -> None:
    """R98: during drain and during grace; waiting clients still get a response."""
    upstream.default = faults.hang
    patient: JsonValue = {"drain": "60s", "grace": "60s"}
    draining, waiting = await asyncio.gather(gateway(server=patient), gateway(server={"drain": "0s", "grace": "60s"}))
    client_tasks = [
        asyncio.create_task(run(each, {**PROMPT_STUDIO_BODY, "timeout": 3})) for each in (draining, waiting)
    ]
    await wait_until(lambda: len(upstream.received) == 2)
    for each in (draining, waiting):
        each.terminate()
        await wait_until(partial(each.logs, "draining"))
        each.terminate()
    assert [0, 0] == [await each.wait_until_exit(30) for each in (draining, waiting)]  # not after 60 s
    assert [(503, "draining", "unknown")] * 2 == [(await one).summary for one in client_tasks]
