"""SIGTERM under load, at the end of the grace, and twice."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING

import pytest

from tests.client import LAYER, STUDIO
from tests.configuration import SECRETS
from tests.drain.balancer import Balancer
from tests.durable.lives import Lives, until
from tests.edge.raw import calling, post
from tests.faults import faults
from tests.faults.provider_answers import (
    LAYER_RESULTS,
    LAYER_RUN,
    STUDIO_RUN,
    node,
    prompt_studio_reply,
    promptlayer_done,
    promptlayer_running,
    promptlayer_started,
)
from tests.overload.load import steadily

if TYPE_CHECKING:
    from pathlib import Path

    import aiohttp

    from providers.contract import JsonValue
    from tests.client import RunWorkflow
    from tests.conftest import StartGateway
    from tests.faults.upstream import Upstream


@pytest.fixture
def lives(gateway: StartGateway, session: aiohttp.ClientSession, tmp_path: Path) -> Lives:
    """Gateways on one file, none of them begun; no run is over before the grace is."""
    return Lives(gateway, session, tmp_path / "runward.db", workflows=LONG)


DONE = prompt_studio_reply({"completion": "because"})
RATE = 100.0  # requests a second: what two gateways, their clients and their provider can do on two busy cores
LONG: dict[str, JsonValue] = {name: {"timeout": "60s", "max_timeout": "60s"} for name in ("studio", "layer")}
ONE_AT_A_TIME: JsonValue = {"prompt_studio": {"limits": {"concurrency": 1, "max_wait": "50s"}}}
SLOW: JsonValue = {"provider": "prompt_studio", "name": "dep_slow", "timeout": "20s"}
SHORT_GRACE: dict[str, JsonValue] = {"drain": "100ms", "grace": "1s"}


async def test_nobody_behind_a_balancer_notices_that_a_gateway_stops(
    upstream: Upstream, gateway: StartGateway, session: aiohttp.ClientSession, run: RunWorkflow
) -> None:
    """R97: ready is 503 at once, the port stays open for `drain`, runs in flight end well, the exit code is 0."""
    upstream.default = faults.after(0.05, DONE)
    upstream.always("POST", "/v1/workflows/dep_slow/run", faults.after(3, DONE))
    settings: dict[str, JsonValue] = {"server": {"drain": "1s"}, "workflows": {"slow": SLOW}}
    stopping, staying = await asyncio.gather(*(gateway(None, SECRETS, **settings) for _ in range(2)))
    async with Balancer(session, [stopping, staying]) as balancer:
        load = asyncio.create_task(steadily(RATE, 5, balancer.send))
        await asyncio.sleep(1.5)
        slow = asyncio.create_task(run(stopping, {**STUDIO, "workflow": "slow"}))
        await until(partial(upstream.requests, "POST", "/v1/workflows/dep_slow/run"))
        stopping.terminate()
        await until(partial(stopping.logs, "draining"))
        async with session.get(stopping.url + "/readyz") as ready, calling(stopping.url) as late:
            assert (503, "close") == (ready.status, ready.headers["Connection"])
            await late.send(post())
            answer = await late.reply()
            assert (200, "close") == (answer.status, answer.header("Connection"))
            await late.closed()
        assert 200 == (await slow).status
        assert 0 == await stopping.ended()
        answers = await load
    assert {200: RATE * 5} == Counter(answer.status for answer in answers)
    assert len(answers) + 2 == len(upstream.requests("POST"))
    served = [len([line for line in each.logs("request") if line["route"] == "run"]) for each in (stopping, staying)]
    assert (len(answers) + 2, True) == (sum(served), min(served) > RATE / 2)
    began, ended = (line["time"] for line in (stopping.logs("draining")[0], stopping.logs("request")[-1]))
    assert str(began) < str(ended)


async def test_a_gateway_does_not_wait_for_runs_for_ever(
    upstream: Upstream, gateway: StartGateway, run: RunWorkflow
) -> None:
    """R98: who waits without a key is told at the end of the grace how far the run came, and what can be repeated."""
    upstream.always("POST", STUDIO_RUN, faults.hang)
    upstream.always("POST", LAYER_RUN, promptlayer_started(77))
    upstream.always("GET", LAYER_RESULTS, promptlayer_running())
    running = await gateway(server=SHORT_GRACE, workflows=LONG, providers=ONE_AT_A_TIME)
    started = asyncio.create_task(run(running, STUDIO))
    await until(lambda: upstream.requests("POST", STUDIO_RUN) != [])
    waiting = asyncio.create_task(run(running, STUDIO))
    followed = asyncio.create_task(run(running, LAYER))
    await until(lambda: upstream.requests("GET") != [])
    running.terminate()
    answers = await asyncio.gather(started, waiting, followed)
    assert 0 == await running.ended()
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


async def test_a_kept_run_that_the_grace_cut_is_found_again(lives: Lives, upstream: Upstream) -> None:
    """R98: the next gateway asks about the execution that is there, at once; the same key has its result."""
    upstream.script("POST", LAYER_RUN, [promptlayer_started(77), promptlayer_started(78)])
    upstream.always("GET", LAYER_RESULTS, promptlayer_running())
    first = await lives.begin(server=SHORT_GRACE)
    asking = asyncio.create_task(lives.post(LAYER, Idempotency_Key="one"))
    accepted = await lives.accepted(LAYER)
    await until(lambda: len({request.target for request in upstream.requests("GET")}) == 2)
    first.terminate()
    cut = await asking
    assert (503, "draining", "unknown", False) == (*cut.summary, cut.json["retryable"])
    assert "Idempotency-Key" in str(cut.json["detail"])
    assert 0 == await first.ended()
    upstream.always("GET", LAYER_RESULTS, promptlayer_done({"Answer": node("because")}))
    second = await lives.begin()
    again = await lives.post_until_told(LAYER, "one")
    assert (200, "because", "true") == (again.status, again.json["output"], again.headers["Idempotent-Replayed"])
    assert (cut.json["run_id"], cut.json["provider_run_id"]) == (again.json["id"], again.json["provider_run_id"])
    assert "succeeded" == (await lives.ended(accepted))["status"]
    assert 2 == len(upstream.requests("POST", LAYER_RUN))
    assert str(second.logs("adopted")[0]["time"]) < str(second.logs("listening")[0]["time"])  # no lease ran on


async def test_a_start_that_the_grace_cut_is_not_made_again(lives: Lives, upstream: Upstream) -> None:
    """R98: it may have been paid for, so its key answers `unknown`; the key of one that was not started is free."""
    upstream.always("POST", STUDIO_RUN, faults.hang)
    first = await lives.begin(server=SHORT_GRACE, providers=ONE_AT_A_TIME)
    started = asyncio.create_task(lives.post(STUDIO, Idempotency_Key="started"))
    await until(lambda: len(upstream.log) == 1)
    waiting = asyncio.create_task(lives.post(STUDIO, Idempotency_Key="waiting"))
    await asyncio.sleep(0.3)  # until it stands in line
    queued = await lives.accepted(STUDIO)
    first.terminate()
    answers = [(await started).summary, (await waiting).summary]
    assert [(503, "draining", "unknown"), (503, "draining", "not_run")] == answers
    assert 0 == await first.ended()
    upstream.always("POST", STUDIO_RUN, DONE)
    await lives.begin()
    assert (502, "upstream_disconnected", "unknown") == (await lives.post_until_told(STUDIO, "started")).summary
    assert 200 == (await lives.post_until_told(STUDIO, "waiting")).status
    assert "succeeded" == (await lives.ended(queued))["status"]
    assert 3 == len(upstream.log)


async def test_a_second_signal_ends_it_at_once(upstream: Upstream, gateway: StartGateway, run: RunWorkflow) -> None:
    """R98: while it still takes requests, and while it waits for runs; their clients are told all the same."""
    upstream.default = faults.hang
    patient: JsonValue = {"drain": "60s", "grace": "60s"}
    lingering, waiting = await asyncio.gather(gateway(server=patient), gateway(server={"drain": "0s", "grace": "60s"}))
    asking = [asyncio.create_task(run(each, {**STUDIO, "timeout": 3})) for each in (lingering, waiting)]
    await until(lambda: len(upstream.log) == 2)
    for each in (lingering, waiting):
        each.terminate()
        await until(partial(each.logs, "draining"))
        each.terminate()
    began = time.monotonic()
    assert [0, 0] == [await each.ended(10) for each in (lingering, waiting)]
    assert time.monotonic() - began < 10
    assert [(503, "draining", "unknown")] * 2 == [(await one).summary for one in asking]
