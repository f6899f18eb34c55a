"""Lenient parsing: a paid result is delivered even if the provider's response is not strict JSON."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.api.prompt_studio.app_client import PromptStudioApp
from tests.api.promptlayer.app_client import PromptLayerApp
from tests.support.callback_receiver import CALLBACK_PATH, delivered_run, deliveries
from tests.support.client import PROMPT_STUDIO_BODY, PROMPTLAYER_BODY
from tests.support.fake_upstream.provider_responses import (
    LAYER_RESULTS,
    LAYER_RUN,
    STUDIO_RUN,
    node,
    promptlayer_done,
    promptlayer_started,
)
from tests.support.fake_upstream.responses import reply
from tests.support.fake_upstream.upstream import FakeUpstream
from tests.support.gateway_restarts import RestartableGateway

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    import aiohttp

    from providers.contract import JsonValue
    from tests.conftest import StartGateway

DEEP = b'[{"a":' * 200 + b"7" + b"}]" * 200
CASES: dict[str, tuple[bytes, JsonValue, str]] = {
    "surrogate": (rb'{"text": "cut \ud83d"}', {"text": "cut \ufffd"}, "U+FFFD"),
    "NaN": (b"[NaN, Infinity, -Infinity, 1e400, 1.5]", [None, None, None, None, 1.5], "replaced by null"),
    "deep": (DEEP, json.loads(DEEP), "nesting"),
    "control": (b'"a\nb"', "a\nb", "control characters"),
    "bad UTF-8": (b'"\xf0\x9f"', "\ufffd", "U+FFFD"),
    "BOM": (b'"plain"', "plain", "byte order mark"),
}
BODIES = {"studio": PROMPT_STUDIO_BODY, "layer": PROMPTLAYER_BODY}


def respond(upstream: FakeUpstream, case: str) -> None:
    """Script this response; at PromptLayer an inner node has the value as well."""
    raw = CASES[case][0]
    bom = b"\xef\xbb\xbf" * (case == "BOM")
    result = b'{"status": "SUCCESS", "value": %b, "is_output_node": %b}'
    nodes = b'{"inner": %b, "Answer": %b}' % (result % (raw, b"false"), result % (raw, b"true"))
    upstream.always("POST", STUDIO_RUN, reply(200, bom + b'{"result": %b}' % raw))
    upstream.always("GET", LAYER_RESULTS, reply(200, bom + nodes))


@pytest.fixture
async def receiver() -> AsyncIterator[FakeUpstream]:
    """Receiver that accepts every callback."""
    async with FakeUpstream() as running:
        running.default = reply(204)
        yield running


@pytest.fixture
async def restartable(
    gateway: StartGateway, session: aiohttp.ClientSession, upstream: FakeUpstream, tmp_path: Path
) -> RestartableGateway:
    """Gateway with a store and callbacks."""
    upstream.always("POST", LAYER_RUN, promptlayer_started(787))
    running = RestartableGateway(gateway, session, tmp_path / "runward.db")
    await running.start()
    return running


@pytest.mark.parametrize("workflow", BODIES)
async def test_a_result_that_is_not_strict_json_reaches_every_reader(
    upstream: FakeUpstream,
    receiver: FakeUpstream,
    restartable: RestartableGateway,
    session: aiohttp.ClientSession,
    workflow: str,
) -> None:
    """Response, replay, stored run, callback and both emulated APIs; one start for each run."""
    layer, studio = PromptLayerApp(session, restartable.current), PromptStudioApp(session, restartable.current)
    body = {**BODIES[workflow], "return_all_outputs": True}
    for case, (_, output, warning) in CASES.items():
        respond(upstream, case)
        answered = await restartable.post(body, Idempotency_Key=case)
        assert 200 == answered.status, (case, answered.body[:300])
        assert output == answered.json["output"]
        assert warning in str(answered.json["warning"])
        assert answered.body == (await restartable.post(body, Idempotency_Key=case)).body
        run_id = await restartable.submit_async({**body, "callback_url": receiver.url + CALLBACK_PATH})
        assert {"state": "delivered"} == await restartable.wait_for_callback(run_id)
        assert output == (await restartable.get_run(run_id))["output"]
        assert output == delivered_run(deliveries(receiver)[-1])["output"]
        started = await layer.start_run(workflow)
        assert output == await layer.wait_for_results(started)
        nodes = await layer.wait_for_results(started, all_nodes=True)
        assert output == nodes["Answer" if workflow == "layer" else "Output"]["value"]
        result = output if workflow == "studio" or isinstance(output, dict) else {"completion": output}
        assert {"result": result} == (await studio.run(workflow)).body
    assert 4 * len(CASES) == len(upstream.requests("POST"))


async def test_results_without_an_output_node_at_one_poll_are_polled_again(
    upstream: FakeUpstream, restartable: RestartableGateway
) -> None:
    early = [reply(200, {}), promptlayer_done({"inner": node("x", is_output=False)})]
    upstream.script("GET", LAYER_RESULTS, [*early, promptlayer_done({"Answer": node("late")})])
    answered = await restartable.post(PROMPTLAYER_BODY)
    assert (200, "late") == (answered.status, answered.json["output"])
    assert 1 == len(upstream.requests("POST"))


async def test_a_failed_node_without_a_value_is_a_failed_run(
    upstream: FakeUpstream, restartable: RestartableGateway
) -> None:
    failed: JsonValue = {"status": "FAILED", "error_message": "division by zero", "is_output_node": True}
    upstream.always("GET", LAYER_RESULTS, promptlayer_done({"Answer": failed}))
    answered = await restartable.post(PROMPTLAYER_BODY)
    assert (502, "run_failed", "failed") == answered.summary
    assert "division by zero" in str(answered.json["detail"])


async def test_of_several_outputs_promptlayer_decides(upstream: FakeUpstream, restartable: RestartableGateway) -> None:
    """The order of the nodes is not the order in which they finished."""
    both = promptlayer_done({"First": node(1), "Second": node(2)})
    upstream.script("GET", LAYER_RESULTS, [both, reply(200, {"First": 1, "Second": 2})])
    answered = await restartable.post({**PROMPTLAYER_BODY, "return_all_outputs": True})
    assert (200, {"First": 1, "Second": 2}) == (answered.status, answered.json["output"])
    assert ["true", "false"] == [request.target.rpartition("=")[2] for request in upstream.requests("GET")]


async def test_of_several_outputs_the_first_is_kept_where_promptlayer_does_not_answer(
    upstream: FakeUpstream, restartable: RestartableGateway
) -> None:
    both = promptlayer_done({"First": node(1), "Second": node(2)})
    upstream.script("GET", LAYER_RESULTS, [both, reply(500, {})])
    answered = await restartable.post(PROMPTLAYER_BODY)
    assert (200, 1) == (answered.status, answered.json["output"])
    assert "several output nodes" in str(answered.json["warning"])
