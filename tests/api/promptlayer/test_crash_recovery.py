"""Crash recovery of runs with an execution id: none is lost or started twice."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.api.promptlayer.app_client import PromptLayerApp, execution_id_of
from tests.support.callback_receiver import CALLBACK_PATH, deliveries, message_ids, verify_signature
from tests.support.fake_upstream.provider_responses import (
    LAYER_RESULTS,
    LAYER_RUN,
    node,
    promptlayer_done,
    promptlayer_running,
    promptlayer_started,
)
from tests.support.fake_upstream.responses import reply
from tests.support.fake_upstream.upstream import FakeUpstream
from tests.support.gateway_restarts import CALLBACK_SECRETS, RestartableGateway
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from pathlib import Path

    import aiohttp

    from providers.contract import JsonValue
    from tests.conftest import StartGateway

ANSWER = node("because “ü”")
ONE_AT_A_TIME: dict[str, JsonValue] = {"promptlayer": {"limits": {"concurrency": 1, "max_wait": "20s"}}}


@pytest.fixture
def gateways(
    gateway: StartGateway, session: aiohttp.ClientSession, upstream: FakeUpstream, tmp_path: Path
) -> RestartableGateway:
    """Gateways that share one store file; PromptLayer succeeds."""
    upstream.always("POST", LAYER_RUN, promptlayer_started(77))
    upstream.always("GET", LAYER_RESULTS, promptlayer_done({"Draft": node("d", is_output=False), "Answer": ANSWER}))
    return RestartableGateway(gateway, session, tmp_path / "runward.db")


async def test_a_power_cut_right_after_the_answer(
    upstream: FakeUpstream, gateways: RestartableGateway, session: aiohttp.ClientSession
) -> None:
    """SIGKILL between the 201 and the start: the next process starts the run, once."""
    for _ in range(3):
        upstream.received.clear()
        started = await PromptLayerApp(session, await gateways.start()).start_run()
        execution_id_of(started)
        await gateways.kill_and_restart()
        ended = await gateways.wait_for_end(started.headers["Runward-Run-Id"])
        assert ended["status"] in {"succeeded", "unknown"}
        assert len(upstream.requests("POST")) <= 1
        await gateways.current.stop()


async def test_a_queued_run_is_started_by_the_next_process(
    upstream: FakeUpstream, gateways: RestartableGateway, session: aiohttp.ClientSession
) -> None:
    """An accepted run that was not sent is executed exactly once after the crash."""
    upstream.always("GET", LAYER_RESULTS, promptlayer_running())
    app = PromptLayerApp(session, await gateways.start(providers=ONE_AT_A_TIME))
    ahead = await app.start_run()
    await wait_until(lambda: upstream.requests("GET"))
    behind = await app.start_run()
    assert 1 == len(upstream.requests("POST"))
    upstream.always("GET", LAYER_RESULTS, promptlayer_done({"Answer": ANSWER}))
    await gateways.kill_and_restart()
    for started in (ahead, behind):
        assert "succeeded" == (await gateways.wait_for_end(started.headers["Runward-Run-Id"]))["status"]
    assert 2 == len(upstream.requests("POST"))


@pytest.mark.parametrize(
    ("every", "final"),
    [
        (False, "because “ü”"),
        (None, "because “ü”"),
        (True, {"Draft": node("d", is_output=False), "Answer": ANSWER}),
    ],
)
async def test_a_callback_is_promptlayers_and_signed(
    receiver: FakeUpstream,
    gateways: RestartableGateway,
    session: aiohttp.ClientSession,
    final: JsonValue,
    *,
    every: bool | None,
) -> None:
    """202; the payload that PromptLayer documents in the requested format, with the gateway's signature."""
    receiver.script("POST", CALLBACK_PATH, [reply(500)])
    app = PromptLayerApp(session, await gateways.start())
    started = await app.start_run("layer", {"callback_url": receiver.url + CALLBACK_PATH, "return_all_outputs": every})
    assert (202, "Workflow execution accepted") == (started.status, started.json["message"])
    run_id = started.headers["Runward-Run-Id"]
    assert {"state": "delivered"} == await gateways.wait_for_callback(run_id)
    assert {f"msg_{run_id}"} == message_ids(receiver)
    for delivery in deliveries(receiver):
        verify_signature(delivery, CALLBACK_SECRETS["RUNWARD_CALLBACK_SECRET"])
        expected = {"workflow_version_execution_id": execution_id_of(started), "final_output": final}
        assert expected == json.loads(delivery.body)
    assert 2 == len(deliveries(receiver))


async def test_a_callback_after_a_power_cut_is_still_promptlayers(
    upstream: FakeUpstream, receiver: FakeUpstream, gateways: RestartableGateway, session: aiohttp.ClientSession
) -> None:
    """The execution id and the format of the results are stored with the run."""
    upstream.always("GET", LAYER_RESULTS, promptlayer_running())
    app = PromptLayerApp(session, await gateways.start())
    started = await app.start_run("layer", {"callback_url": receiver.url + CALLBACK_PATH})
    await wait_until(lambda: upstream.requests("GET"))
    upstream.always("GET", LAYER_RESULTS, promptlayer_done({"Answer": node(None, "FAILED", error="no")}))
    await gateways.kill_and_restart()
    assert {"state": "delivered"} == await gateways.wait_for_callback(started.headers["Runward-Run-Id"])
    [delivery] = deliveries(receiver)
    document = json.loads(delivery.body)
    assert execution_id_of(started) == document["workflow_version_execution_id"]
    assert ("FAILED", "no") == (
        document["final_output"]["Answer"]["status"],
        document["final_output"]["Answer"]["error_message"],
    )


async def test_a_key_is_known_after_a_power_cut(
    upstream: FakeUpstream, gateways: RestartableGateway, session: aiohttp.ClientSession
) -> None:
    """The same answer byte for byte, and no second start."""
    app = PromptLayerApp(session, await gateways.start())
    started = await app.start_run("layer", Idempotency_Key="order-7")
    await gateways.wait_for_end(started.headers["Runward-Run-Id"])
    app = PromptLayerApp(session, await gateways.kill_and_restart())
    again = await app.start_run("layer", Idempotency_Key="order-7")
    assert (201, started.body) == (again.status, again.body)
    assert 1 == len(upstream.requests("POST"))


async def test_a_channel_beside_a_key_is_one_run(gateways: RestartableGateway, session: aiohttp.ClientSession) -> None:
    app = PromptLayerApp(session, await gateways.start())
    more: dict[str, JsonValue] = {"channel_name_suffix": "a71d"}
    answers = [await app.start_run("layer", more, Idempotency_Key="one"), await app.start_run("layer", more)]
    answers += [await app.start_run("layer", more, Idempotency_Key="two")]
    assert 1 == len({answered.body for answered in answers})
