"""Spans of stored runs: their phases, their callbacks, and what a process adds that adopts them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import aiohttp
import pytest

from tests.support.callback_receiver import CALLBACK_PATH, deliveries
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
from tests.support.gateway_restarts import RestartableGateway
from tests.support.otlp_receiver import OtlpReceiver, ReceivedSpan, ids_in
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import StartGateway
    from tests.support.fake_upstream.upstream import FakeUpstream

DONE = promptlayer_done({"Answer": node("because")})


@pytest.fixture
def restartable(
    gateway: StartGateway, session: aiohttp.ClientSession, collector: OtlpReceiver, tmp_path: Path
) -> RestartableGateway:
    """Traced gateways on one store file, not started."""
    gateways = RestartableGateway(gateway, session, tmp_path / "runward.db", tracing={"enabled": True})
    gateways.environment |= collector.environment
    return gateways


def phases(span: ReceivedSpan) -> list[object]:
    """Return the phases of the events of a span."""
    assert {"runward.phase"} >= {name for name, _ in span.events}
    return [attributes["runward.phase"] for _, attributes in span.events]


async def test_a_background_run_is_below_its_request(
    upstream: FakeUpstream, restartable: RestartableGateway, collector: OtlpReceiver
) -> None:
    """The request has ended by then; the log of the end names the span."""
    upstream.script("POST", LAYER_RUN, [promptlayer_started(77)])
    upstream.script("GET", LAYER_RESULTS, [promptlayer_running(), DONE])
    running = await restartable.start()
    await restartable.wait_for_end(await restartable.submit_async(PROMPTLAYER_BODY))
    [request] = await collector.wait_for("POST /run")
    [workflow] = await collector.wait_for("invoke_workflow layer")
    assert (request.trace_id, request.span_id) == (workflow.trace_id, workflow.parent_id)
    assert ["sending", "following"] == phases(workflow)
    await wait_until(lambda: running.logs("run_ended"))
    [line] = running.logs("run_ended")
    assert workflow.ids == (line["trace_id"], line["span_id"])


async def test_a_delivery_is_a_trace_that_is_linked_to_its_run(
    upstream: FakeUpstream, receiver: FakeUpstream, restartable: RestartableGateway, collector: OtlpReceiver
) -> None:
    """Each attempt is one; the receiver gets its context."""
    upstream.always("POST", STUDIO_RUN, prompt_studio_reply("because"))
    receiver.script("POST", CALLBACK_PATH, [reply(500)])
    await restartable.start()
    run_id = await restartable.submit_async({**PROMPT_STUDIO_BODY, "callback_url": receiver.url + CALLBACK_PATH})
    await restartable.wait_for_callback(run_id)
    [workflow] = await collector.wait_for("invoke_workflow studio")
    await collector.wait_until(lambda c: len([s for s in c.named("POST") if s.links]) == 2)
    attempts = [span for span in collector.named("POST") if span.links]
    assert [[workflow.ids]] * 2 == [span.links for span in attempts]
    assert ["", ""] == [span.parent_id for span in attempts]
    assert 3 == len({workflow.trace_id, *(span.trace_id for span in attempts)})
    host, port = receiver.url.removeprefix("http://").split(":")
    common = {
        "http.request.method": "POST",
        "server.address": host,
        "server.port": int(port),
        "runward.run.id": run_id,
    }
    assert [
        common | {"http.response.status_code": 500, "error.type": "500"},
        common | {"http.response.status_code": 204, "http.request.resend_count": 1},
    ] == [span.attributes for span in attempts]
    assert [span.ids for span in attempts] == [ids_in(request) for request in deliveries(receiver)]


async def test_an_adopted_run_is_linked_to_its_request(
    upstream: FakeUpstream, restartable: RestartableGateway, collector: OtlpReceiver
) -> None:
    """R44: after a crash the next process follows the run in a span of its own, linked to the request's."""
    upstream.script("POST", LAYER_RUN, [promptlayer_started(77)])
    upstream.always("GET", LAYER_RESULTS, promptlayer_running())
    await restartable.start()
    run_id = await restartable.submit_async(PROMPTLAYER_BODY)
    [request] = await collector.wait_for("POST /run")
    await wait_until(lambda: len(upstream.requests("GET")) >= 2)
    restarted = await restartable.kill_and_restart()
    upstream.always("GET", LAYER_RESULTS, DONE)
    await restartable.wait_for_end(run_id)
    [workflow] = await collector.wait_for("invoke_workflow layer")  # that of the killed process is lost with it
    assert ([request.ids], "", True) == (workflow.links, workflow.parent_id, workflow.trace_id != request.trace_id)
    assert ["following"] == phases(workflow)[:1]
    assert (run_id, "succeeded", 1) == tuple(
        workflow.attributes[f"runward.{name}"] for name in ("run.id", "outcome", "attempts")
    )
    polls = [span for span in collector.named("GET") if span.trace_id == workflow.trace_id]
    assert {workflow.span_id} == {span.parent_id for span in polls}
    await wait_until(lambda: restarted.logs("run_ended"))


async def test_a_run_that_was_interrupted_in_its_start_has_a_span(
    upstream: FakeUpstream, restartable: RestartableGateway, collector: OtlpReceiver
) -> None:
    """R44: its outcome is unknown; the process that stores that says so in a span, linked to the request's."""
    upstream.always("POST", STUDIO_RUN, faults.hang)
    await restartable.start()
    run_id = await restartable.submit_async(PROMPT_STUDIO_BODY)
    [request] = await collector.wait_for("POST /run")
    await wait_until(lambda: upstream.requests("POST"))
    await restartable.kill_and_restart()
    assert "unknown" == (await restartable.wait_for_end(run_id))["status"]
    [workflow] = await collector.wait_for("invoke_workflow studio")
    assert ([request.ids], True, "unknown", "upstream_disconnected") == (
        workflow.links,
        workflow.failed,
        workflow.attributes["runward.outcome"],
        workflow.attributes["error.type"],
    )


async def test_a_run_that_is_left_to_another_process_has_no_outcome(
    upstream: FakeUpstream, restartable: RestartableGateway, collector: OtlpReceiver
) -> None:
    """The span of a process that shuts down ends without outcome and error; the next one has both."""
    upstream.script("POST", LAYER_RUN, [promptlayer_started(77)])
    upstream.always("GET", LAYER_RESULTS, promptlayer_running())
    running = await restartable.start()
    run_id = await restartable.submit_async(PROMPTLAYER_BODY)
    await wait_until(lambda: upstream.requests("GET"))
    assert 0 == await running.stop()
    [left] = await collector.wait_for("invoke_workflow layer")
    assert (False, False) == (left.failed, "runward.outcome" in left.attributes)
    upstream.always("GET", LAYER_RESULTS, DONE)
    await restartable.start()
    await restartable.wait_for_end(run_id)
    _, continued = await collector.wait_for("invoke_workflow layer", 2)
    assert "succeeded" == continued.attributes["runward.outcome"]


async def test_a_cancelled_run_is_not_a_failure(
    upstream: FakeUpstream, restartable: RestartableGateway, collector: OtlpReceiver
) -> None:
    """R106: it was not started, because its client said so."""
    upstream.always("POST", LAYER_RUN, promptlayer_started(77))
    upstream.always("GET", LAYER_RESULTS, promptlayer_running())
    await restartable.start(providers={"promptlayer": {"limits": {"concurrency": 1, "max_wait": "20s"}}})
    await restartable.submit_async(PROMPTLAYER_BODY)
    await wait_until(lambda: upstream.requests("GET"))
    waiting = await restartable.submit_async(PROMPTLAYER_BODY)
    await asyncio.sleep(0.1)
    assert 200 == (await restartable.cancel(waiting)).status
    [workflow] = await collector.wait_for("invoke_workflow layer")
    assert (waiting, "not_run", "cancelled", False) == (
        *(workflow.attributes[name] for name in ("runward.run.id", "runward.outcome", "error.type")),
        workflow.failed,
    )


async def test_a_replay_names_the_run_that_it_repeats(
    upstream: FakeUpstream, restartable: RestartableGateway, collector: OtlpReceiver, session: aiohttp.ClientSession
) -> None:
    """Its span is below the request that asked for it."""
    upstream.always("POST", STUDIO_RUN, prompt_studio_reply("because"))
    running = await restartable.start()
    first = await restartable.submit_async(PROMPT_STUDIO_BODY)
    await restartable.wait_for_end(first)
    async with session.post(f"{running.url}/runs/{first}/replay", headers=auth_headers("one")) as answer:
        assert 202 == answer.status, await answer.text()
    original, replay = await collector.wait_for("invoke_workflow studio", 2)
    await collector.wait_for_span(replay.parent_id)
    [request] = [span for span in collector.spans if span.span_id == replay.parent_id]
    assert f"POST {request.attributes['http.route']}" == request.name
    assert (None, first) == tuple(span.attributes.get("runward.replay_of") for span in (original, replay))


async def test_a_background_run_waits_for_the_limit_of_its_client(
    upstream: FakeUpstream, restartable: RestartableGateway, collector: OtlpReceiver
) -> None:
    """It asks again when the rate of its client allows one more."""
    upstream.always("POST", STUDIO_RUN, prompt_studio_reply("because"))
    await restartable.start(clients={"one": {"limits": {"rate": "2/s", "burst": 1}}})
    for run_id in [await restartable.submit_async(PROMPT_STUDIO_BODY) for _ in range(2)]:
        await restartable.wait_for_end(run_id)
    waits = await collector.wait_for("runward.wait")
    assert {"client"} == {wait.attributes["runward.wait.for"] for wait in waits}
