"""Metrics equal the events that happened, under names that clients cannot choose (R92, R93)."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest
from prometheus_client.samples import Sample

from gateway.auth.keys import new_key
from gateway.clock import SystemClock
from providers.contract import JsonValue
from tests.security.gateway_harness import GatewayHarness, running_gateway
from tests.security.sample_requests import rejected_requests, run_of_workflow, run_with_body
from tests.support.fake_upstream import faults
from tests.support.fake_upstream.faults import ResponseScript
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
from tests.support.fake_upstream.responses import reply
from tests.support.process import metric_sum
from tests.support.raw_client import RawResponse, build_get, build_head, build_run, raw_connection, send_request

pytestmark = pytest.mark.asyncio(loop_scope="session")

UPSTREAM_RESPONSES: Sequence[ResponseScript] = [
    prompt_studio_reply({}), prompt_studio_reply({}), reply(500, {}), reply(400, {}), reply(404, {}), reply(401, {}),
    reply(429, {}), reply(503, {}), faults.rst_after_request, faults.fin_after_request, faults.GARBAGE,
    faults.truncate(3), faults.headers_then_fin, reply(200, b"[]"), faults.delayed(0.05, prompt_studio_reply({})),
]  # fmt: skip


def mixed_requests(rng: random.Random) -> list[bytes]:
    """Return 300 requests in random order, a third of them runs."""
    runs = [run_of_workflow(rng.choice(["studio", "layer"])) for _ in range(100)]
    others = [rng.choice([*rejected_requests().values()])[0] for _ in range(150)]
    open_ones = [build_get(rng.choice(["/healthz", "/readyz", "/docs"])) for _ in range(50)]
    mixed = runs + others + open_ones
    rng.shuffle(mixed)
    return mixed


def script_unreliable(harness: GatewayHarness, rng: random.Random) -> None:
    """Script random successes and faults."""
    harness.upstream.script("POST", STUDIO_RUN, [rng.choice(UPSTREAM_RESPONSES) for _ in range(400)])
    harness.upstream.script(
        "POST", LAYER_RUN, [promptlayer_started(787) if n % 3 else reply(429, {}) for n in range(400)]
    )
    done = promptlayer_done({"Answer": node("because")})
    harness.upstream.script("GET", LAYER_RESULTS, rng.choices([promptlayer_running(), done, reply(500, {})], k=400))


async def send_all(harness: GatewayHarness, sent: Sequence[bytes]) -> list[RawResponse]:
    """Send all, ten at a time, from enough addresses to stay below the limit of failures."""
    answers: list[RawResponse] = []
    for first in range(0, len(sent), 10):
        asked = enumerate(sent[first : first + 10], first)
        answers += await asyncio.gather(
            *(send_request(harness.url, data, f"127.0.6.{n % 250 + 1}") for n, data in asked)
        )
    return answers


def count_by_label(samples: Sequence[Sample], name: str, label: str) -> dict[str, float]:
    """Return the counts by the values of one label."""
    return {s.labels[label]: metric_sum(samples, name, **{label: s.labels[label]}) for s in samples if s.name == name}


async def test_the_metrics_match_the_requests_and_upstream_calls(tmp_path: Path) -> None:
    """R92: counted requests equal those sent, answered and seen upstream; nothing is left in flight."""
    rng = random.Random(92)
    breaker: JsonValue = {"failures": 1_000_000}
    async with running_gateway(tmp_path, breaker=breaker, clients={"two": {"workflows": ["layer"]}}) as harness:
        script_unreliable(harness, rng)
        answers = await send_all(harness, mixed_requests(rng))
        samples = await harness.gateway.metrics()
        assert Counter(str(a.status) for a in answers) == count_by_label(samples, "runward_requests_total", "status")
        codes = Counter(str(answer.json["code"]) for answer in answers if answer.status >= 400)
        assert codes == count_by_label(samples, "runward_refusals_total", "code")
        runs = [answer.json for answer in answers if b'"attempts":' in answer.body]
        outcomes = Counter(str(run.get("outcome", run.get("status"))) for run in runs)
        assert outcomes == count_by_label(samples, "runward_runs_total", "outcome")
        assert (100, {"succeeded", "failed", "unknown", "not_run"}) == (len(runs), set(outcomes))
        ended_badly = [s for s in samples if s.name == "runward_run_errors_total" and s.labels["provider"]]
        assert 100 - outcomes["succeeded"] == sum(s.value for s in ended_badly)
        without_run = {
            s.labels["code"]: s.value for s in samples if s.labels.get("provider") == "" and "fault" in s.labels
        }
        assert [] == [code for code, count in without_run.items() if count > codes[code]]
        assert {"invalid_request", "unauthorized"} <= set(without_run)
        assert 100 == metric_sum(samples, "runward_run_duration_seconds_count")
        assert len(harness.upstream.received) == metric_sum(samples, "runward_upstream_calls_total")
        starts = sum(int(str(run["attempts"])) for run in runs)
        assert len(harness.upstream.requests("POST")) == starts
        assert starts == metric_sum(samples, "runward_upstream_calls_total", operation="start")
        assert 0 == metric_sum(samples, "runward_requests_in_flight")


async def test_clients_that_leave_are_counted_too(harness: GatewayHarness) -> None:
    """R92: a client that disconnects during its run leaves nothing in flight, and its run is counted."""
    harness.upstream.always("POST", STUDIO_RUN, faults.delayed(0.3, prompt_studio_reply({})))
    before = await harness.gateway.metrics()
    for _ in range(20):
        async with raw_connection(harness.url) as caller:
            await caller.send(build_run())
            await asyncio.sleep(0.01)
    lines = await harness.access_log("run", 20)
    after = await harness.gateway.metrics()
    for name in ("runward_runs_total", "runward_upstream_calls_total"):
        assert 20 == metric_sum(after, name) - metric_sum(before, name)
    requests = [metric_sum(samples, "runward_requests_total", route="run") for samples in (before, after)]
    assert (20, 20, 20) == (requests[1] - requests[0], len(harness.upstream.received), len(lines))
    assert 0 == metric_sum(after, "runward_requests_in_flight")


def random_request(rng: random.Random) -> bytes:
    """A request with random path, method, key, user agent and names."""
    text = "".join(rng.choices("abcdefghijklmnopqrstuvwxyz0123456789-_.~%", k=rng.randint(1, 60)))
    key = {"Authorization": f"Bearer {new_key(SystemClock())}"}
    agent = {"User-Agent": text, "X-Request-Id": text, "Referer": text, "X-" + text.strip("%~."): text}
    kinds = [
        build_get(f"/{text}", agent),
        build_head(rng.choice(["PUT", "DELETE", "PATCH", "OPTIONS"]), f"/{text}", agent, client=None),
        build_head(rng.choice(["GET", "PUT", "TRACE", "PROPFIND"]), f"/run?{text}", agent),
        build_run(headers=agent | key, client=None),
        run_of_workflow(text),
        run_of_workflow(f"nobody/{text}"),
        run_of_workflow(f"prompt_studio/{text}"),
        run_of_workflow(f"promptlayer/{text}", label=text, metadata={text: text}, input={text: text}),
        run_with_body({text: text}),
        build_run(text.encode()),
        f"{text.upper()} /{text} HTTP/1.1\r\n\r\n".encode(),
    ]
    return rng.choice(kinds)


async def test_the_number_of_series_does_not_depend_on_requests(harness: GatewayHarness) -> None:
    """R93: 1 000 random paths, methods, keys, user agents, names: not one series more than after the first hundred."""
    rng = random.Random(93)
    harness.upstream.route(lambda r: r.path.startswith("/workflows/"), promptlayer_started(787))
    harness.upstream.always("GET", LAYER_RESULTS, promptlayer_done({"Answer": node("because")}))
    for _ in range(30):  # more bad keys than an address may send
        await send_request(harness.url, build_run(headers={"X-API-KEY": "x"}, client=None), "127.0.7.1")
    series = []
    for count in (300, 1000):
        for number in range(count):
            assert (await send_request(harness.url, random_request(rng), f"127.0.7.{number % 5 + 1}")).status < 500
        series.append({(s.name, *sorted(s.labels.items())) for s in await harness.gateway.metrics()})
    assert set() == series[1] - series[0]
    assert len(series[1]) < 400
