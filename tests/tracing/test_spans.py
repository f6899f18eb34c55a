"""Spans of requests, runs, waits and calls, as a receiver of OTLP gets them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import aiohttp
import pytest

from gateway.observability.tracing import span_table
from gateway.observability.tracing.span_table import SPAN_TYPES, SpanType
from tests.support.client import PROMPT_STUDIO_BODY, PROMPTLAYER_BODY, auth_headers
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
from tests.support.fake_upstream.responses import reply
from tests.support.otlp_receiver import OtlpReceiver, ReceivedSpan, ids_in, point_attributes
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from providers.contract import JsonValue
    from tests.support.client import PostRun
    from tests.support.fake_upstream.upstream import FakeUpstream
    from tests.support.process import GatewayProcess

    StartTraced = Callable[..., Awaitable[GatewayProcess]]

CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
DONE = prompt_studio_reply({"completion": "because"})
ONE_AT_A_TIME: dict[str, JsonValue] = {"limits": {"concurrency": 1, "max_wait": "20s"}}


def type_of(span: ReceivedSpan) -> SpanType:
    """Return the type of a span in the table, by its kind, name and attributes."""
    first = span.name.partition(" ")[0]
    fitting = [each for each in SPAN_TYPES if each.kind == span.kind and set(span.attributes) <= set(each.attributes)]
    found = [each for each in fitting if "{METHOD}" in each.name or each.name.partition(" ")[0] == first]
    assert found, span
    return found[0]


async def test_a_waiting_run_is_a_tree(
    upstream: FakeUpstream, traced_gateway: StartTraced, collector: OtlpReceiver, run: PostRun
) -> None:
    """R94: request, run and call are one trace, below the caller's span; the provider gets the span of its call."""
    upstream.always("POST", STUDIO_RUN, DONE)
    running = await traced_gateway()
    answered = await run(running, PROMPT_STUDIO_BODY, traceparent=CALLER, tracestate="vendor=1")
    assert 200 == answered.status
    [call] = await collector.wait_for("POST")
    [request] = await collector.wait_for("POST /run")
    [workflow] = await collector.wait_for("invoke_workflow studio")
    assert 3 == len(collector.spans)
    assert {CALLER[3:35]} == {span.trace_id for span in collector.spans}
    assert {"vendor=1"} == {span.state for span in collector.spans}
    assert (CALLER[36:52], request.span_id, workflow.span_id) == (
        request.parent_id,
        workflow.parent_id,
        call.parent_id,
    )
    assert request.start <= workflow.start <= call.start <= call.end <= workflow.end <= request.end
    assert ("server", "internal", "client") == (request.kind, workflow.kind, call.kind)
    assert {
        "http.request.method": "POST",
        "http.route": "/run",
        "http.response.status_code": 200,
    } == request.attributes
    assert {
        "gen_ai.operation.name": "invoke_workflow",
        "gen_ai.agent.name": "studio",
        "runward.run.id": answered.json["id"],
        "runward.outcome": "succeeded",
        "runward.client": "one",
        "runward.provider": "prompt_studio",
        "runward.api": "run",
        "runward.attempts": 1,
    } == workflow.attributes
    host, port = upstream.url.removeprefix("http://").split(":")
    assert {
        "http.request.method": "POST",
        "server.address": host,
        "server.port": int(port),
        "http.response.status_code": 200,
        "runward.call": "start",
    } == call.attributes
    [sent] = upstream.received
    assert (call.ids, None) == (ids_in(sent), sent.header("tracestate"))
    await wait_until(lambda: running.logs("request"))
    [line] = running.logs("request")
    assert request.ids == (line["trace_id"], line["span_id"])
    assert {"runward"} == {resource["service.name"] for resource in collector.resources}


async def test_every_poll_is_a_call(
    upstream: FakeUpstream, traced_gateway: StartTraced, collector: OtlpReceiver, run: PostRun
) -> None:
    """A poll is not the repetition of another one."""
    upstream.script("POST", LAYER_RUN, [promptlayer_started(77)])
    upstream.script("GET", LAYER_RESULTS, [promptlayer_running(), reply(500, {}), promptlayer_done({"A": node("x")})])
    running = await traced_gateway()
    assert 200 == (await run(running, PROMPTLAYER_BODY)).status
    calls = await collector.wait_for("GET", 3)
    assert ["poll"] * 3 == [call.attributes["runward.call"] for call in calls]
    assert [(202, None), (500, None), (200, 1)] == [
        (call.attributes["http.response.status_code"], call.attributes.get("http.request.resend_count"))
        for call in calls
    ]
    assert [(False, None), (True, "500"), (False, None)] == [
        (call.failed, call.attributes.get("error.type")) for call in calls
    ]
    [start] = collector.named("POST")
    assert "start" == start.attributes["runward.call"]
    assert [start.ids, *(call.ids for call in calls)] == [ids_in(request) for request in upstream.received]


async def test_a_repeated_start_is_counted(
    upstream: FakeUpstream, traced_gateway: StartTraced, collector: OtlpReceiver, run: PostRun
) -> None:
    """The second call is the first repetition; the wait before it is a span."""
    upstream.script("POST", STUDIO_RUN, [reply(429, {}, [("Retry-After", "1")]), DONE])
    running = await traced_gateway(retries={"backoff_max": "2s"})
    assert 200 == (await run(running, PROMPT_STUDIO_BODY)).status
    first, second = await collector.wait_for("POST", 2)
    assert (None, 1) == tuple(call.attributes.get("http.request.resend_count") for call in (first, second))
    assert ("429", None) == tuple(call.attributes.get("error.type") for call in (first, second))
    [wait] = await collector.wait_for("runward.wait")
    assert {"runward.wait.for": "backoff"} == wait.attributes
    assert wait.end - wait.start >= 0.9e9
    [workflow] = await collector.wait_for("invoke_workflow studio")
    assert (workflow.span_id, 2, False) == (wait.parent_id, workflow.attributes["runward.attempts"], workflow.failed)


@pytest.mark.parametrize("scope", ["workflow", "provider"])
async def test_a_wait_says_whose_limit_it_is_for(
    scope: str, upstream: FakeUpstream, traced_gateway: StartTraced, collector: OtlpReceiver, run: PostRun
) -> None:
    """The second run waits until the first one has ended."""
    upstream.always("POST", STUDIO_RUN, faults.delayed(0.3, DONE))
    overrides: dict[str, JsonValue] = (
        {"providers": {"prompt_studio": ONE_AT_A_TIME}}
        if scope == "provider"
        else {
            "workflows": {"studio": {"limits": {"concurrency": 1}}},
            "providers": {"prompt_studio": {"limits": {"max_wait": "20s"}}},
        }
    )
    running = await traced_gateway(**overrides)
    answers = await asyncio.gather(*(run(running, PROMPT_STUDIO_BODY) for _ in range(2)))
    assert [200, 200] == [each.status for each in answers]
    [wait] = await collector.wait_for("runward.wait")
    assert {"runward.wait.for": scope} == wait.attributes
    assert wait.end - wait.start >= 0.1e9


async def test_a_refusal_by_a_limit_is_not_a_failure(
    upstream: FakeUpstream, traced_gateway: StartTraced, collector: OtlpReceiver, run: PostRun
) -> None:
    """The run says why it was refused, without the status of an error; a failure at the provider has it."""
    upstream.always("POST", STUDIO_RUN, DONE)
    running = await traced_gateway(clients={"one": {"limits": {"rate": "1/h"}}})
    assert [200, 429] == [(await run(running, PROMPT_STUDIO_BODY)).status for _ in range(2)]
    upstream.always("POST", STUDIO_RUN, reply(400, {}))
    assert "rejected_by_provider" == (await run(running, PROMPT_STUDIO_BODY, client="two")).summary[1]
    done, refused, failed = await collector.wait_for("invoke_workflow studio", 3)
    assert [(False, None), (False, "rate_limited"), (True, "rejected_by_provider")] == [
        (span.failed, span.attributes.get("error.type")) for span in (done, refused, failed)
    ]
    assert ("not_run", 0) == (refused.attributes["runward.outcome"], refused.attributes["runward.attempts"])
    requests = await collector.wait_for("POST /run", 3)
    assert [(200, False), (429, False), (422, False)] == [
        (span.attributes["http.response.status_code"], span.failed) for span in requests
    ]


async def test_a_call_without_a_response_names_its_cause(
    upstream: FakeUpstream, traced_gateway: StartTraced, collector: OtlpReceiver, run: PostRun
) -> None:
    """The outcome is not known, which is an error."""
    upstream.always("POST", STUDIO_RUN, faults.rst_after_request)
    running = await traced_gateway()
    assert "unknown" == (await run(running, PROMPT_STUDIO_BODY)).json["outcome"]
    [call] = await collector.wait_for("POST")
    [workflow] = await collector.wait_for("invoke_workflow studio")
    assert ("disconnected", None, True) == (
        call.attributes["error.type"],
        call.attributes.get("http.response.status_code"),
        call.failed,
    )
    assert ("unknown", "upstream_disconnected", True) == (
        workflow.attributes["runward.outcome"],
        workflow.attributes["error.type"],
        workflow.failed,
    )


@pytest.mark.parametrize(
    ("convention", "names"),
    [
        ("v0.1", {"gen_ai.agent.name"}),
        ("v1.41", {"gen_ai.workflow.name"}),
        ("both", {"gen_ai.agent.name", "gen_ai.workflow.name"}),
    ],
)
async def test_the_convention_names_the_workflow(  # noqa: PLR0917 - fixtures
    convention: str,
    names: set[str],
    upstream: FakeUpstream,
    traced_gateway: StartTraced,
    collector: OtlpReceiver,
    run: PostRun,
) -> None:
    """The operation and the name of the span are the same in each; v1.41 has no metric."""
    upstream.always("POST", STUDIO_RUN, DONE)
    running = await traced_gateway(tracing={"convention": convention})
    assert 200 == (await run(running, PROMPT_STUDIO_BODY)).status
    [workflow] = await collector.wait_for("invoke_workflow studio")
    found = {name: value for name, value in workflow.attributes.items() if name.startswith("gen_ai.")}
    assert {"gen_ai.operation.name": "invoke_workflow", **dict.fromkeys(names, "studio")} == found
    assert 0 == await running.stop()
    points = collector.histogram(span_table.RUN_DURATION.name)
    if convention == "v1.41":
        assert [] == points
        return
    point = points[-1]
    assert found == point_attributes(point)
    assert (1, [*span_table.RUN_DURATION.buckets]) == (point.count, [*point.explicit_bounds])
    [exemplar] = [exemplar for each in points for exemplar in each.exemplars]
    assert workflow.ids == (exemplar.trace_id.hex(), exemplar.span_id.hex())


async def test_the_apis_of_the_providers_are_traced(
    upstream: FakeUpstream,
    traced_gateway: StartTraced,
    collector: OtlpReceiver,
    session: aiohttp.ClientSession,
) -> None:
    """Their runs are children of their requests."""
    upstream.always("POST", STUDIO_RUN, DONE)
    upstream.always("POST", LAYER_RUN, promptlayer_started(77))
    upstream.always("GET", LAYER_RESULTS, promptlayer_done({"A": node("x")}))
    running = await traced_gateway()
    bodies: dict[str, JsonValue] = {"/workflows/layer/run": {}, "/v1/workflows/studio/run": {"input": {}}}
    for path, body in bodies.items():
        headers = auth_headers("one") | {"traceparent": CALLER}
        async with session.post(running.url + path, json=body, headers=headers) as answer:
            assert answer.status in {200, 201}, await answer.text()
    for alias, api in (("layer", "promptlayer"), ("studio", "prompt_studio")):
        [workflow] = await collector.wait_for(f"invoke_workflow {alias}")
        parent = workflow.parent_id
        await collector.wait_for_span(parent)
        [request] = [span for span in collector.spans if span.span_id == parent]
        assert (api, CALLER[3:35], CALLER[36:52]) == (
            workflow.attributes["runward.api"],
            workflow.trace_id,
            request.parent_id,
        )
        assert f"POST {request.attributes['http.route']}" == request.name


async def test_every_attribute_is_in_the_table_and_none_has_content(
    upstream: FakeUpstream, traced_gateway: StartTraced, collector: OtlpReceiver, run: PostRun
) -> None:
    """Input, output, metadata, tags, idempotency keys and texts of providers are in no span; keys never leave."""
    upstream.script("POST", STUDIO_RUN, [prompt_studio_reply("canary-output"), reply(400, {"error": "canary-error"})])
    running = await traced_gateway()
    body: dict[str, JsonValue] = {
        "workflow": "studio",
        "input": {"canary-name": "canary-input"},
        "metadata": {"canary-m": "canary-meta"},
    }
    for key in ("canary-key-1", "canary-key-2"):
        await run(running, body | {"tags": ["canary-tag"]}, Idempotency_Key=key, baggage="canary=1")
    await run(running, {"workflow": "canary-workflow", "input": {}})
    await collector.wait_for("invoke_workflow studio", 2)
    await collector.wait_for("POST /run", 3)
    assert 0 == await running.stop()
    assert {"POST /run", "invoke_workflow studio", "POST", "runward.wait"} >= {s.name for s in collector.spans}
    for span in collector.spans:
        assert set(span.attributes) <= set(type_of(span).attributes), span
    assert b"canary" not in collector.received_bytes
    keys = [secret.encode() for secret in collector.environment.values() if secret.startswith(("pl_", "ps_"))]
    assert 2 == len(keys)
    assert [] == [
        key for key in (*keys, auth_headers("one")["Authorization"][7:].encode()) if key in collector.received_bytes
    ]


async def test_requests_without_a_valid_key_make_no_span(
    upstream: FakeUpstream,
    traced_gateway: StartTraced,
    collector: OtlpReceiver,
    run: PostRun,
    session: aiohttp.ClientSession,
) -> None:
    """Nor do probes, metrics and unknown paths: strangers fill no queue."""
    upstream.always("POST", STUDIO_RUN, DONE)
    running = await traced_gateway()
    for path in ("/run", "/nothing"):
        async with session.post(running.url + path, json={}, headers={"traceparent": CALLER}) as answer:
            assert answer.status in {401, 404}
    async with session.get(running.url + "/healthz") as answer:
        assert 200 == answer.status
    assert 200 == (await run(running, PROMPT_STUDIO_BODY)).status
    assert 0 == await running.stop()
    assert {"POST /run", "invoke_workflow studio", "POST"} == {span.name for span in collector.spans}
    assert 3 == len(collector.spans)


async def test_a_request_that_is_passed_through_is_one_span(
    upstream: FakeUpstream, traced_gateway: StartTraced, collector: OtlpReceiver, session: aiohttp.ClientSession
) -> None:
    """Its path is no route; the provider gets its context."""
    upstream.always("GET", "/prompt-templates", reply(200, {}))
    running = await traced_gateway(clients={"one": {"passthrough": {"promptlayer": ["GET /prompt-templates"]}}})
    async with session.get(running.url + "/prompt-templates?canary=1", headers=auth_headers("one")) as answer:
        assert 200 == answer.status, await answer.text()
    [span] = await collector.wait_for("GET")
    assert ("server", {"http.request.method": "GET", "http.response.status_code": 200}) == (span.kind, span.attributes)
    assert span.ids == ids_in(upstream.received[0])
    assert b"canary" not in collector.received_bytes
