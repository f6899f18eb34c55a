"""Crash recovery: no run is started twice, none is lost, and no response claims more than is known."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING

import aiohttp
import pytest

from tests.support.callback_receiver import CALLBACK_PATH, delivered_run, deliveries, message_ids
from tests.support.client import PROMPT_STUDIO_BODY, PROMPTLAYER_BODY
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
from tests.support.fake_upstream.upstream import FakeUpstream
from tests.support.gateway_restarts import RestartableGateway
from tests.support.process import GatewayExitedError
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from providers.contract import JsonValue
    from tests.conftest import StartGateway

DONE = promptlayer_done({"Answer": node("because")})
RESULTS_TARGET = LAYER_RESULTS + "?workflow_version_execution_id=77&return_all_outputs=true"
ONE_AT_A_TIME: dict[str, JsonValue] = {"promptlayer": {"limits": {"concurrency": 1, "max_wait": "20s"}}}


@pytest.fixture
def restartable(gateway: StartGateway, session: aiohttp.ClientSession, tmp_path: Path) -> RestartableGateway:
    """Gateways on one store file, not started."""
    return RestartableGateway(gateway, session, tmp_path / "runward.db")


async def kill_during_request(asking: asyncio.Task[object], restartable: RestartableGateway) -> None:
    """Kill the gateway while a client waits, and start the next one."""
    await restartable.kill_and_restart()
    with pytest.raises(aiohttp.ClientError):
        await asking


async def test_an_interrupted_start_stays_unknown(upstream: FakeUpstream, restartable: RestartableGateway) -> None:
    """R44: Prompt Studio cannot be polled, so the key answers 502, outcome unknown, each time; one start."""
    upstream.always("POST", STUDIO_RUN, faults.hang)
    await restartable.start()
    asking = asyncio.create_task(restartable.post(PROMPT_STUDIO_BODY, Idempotency_Key="one"))
    await wait_until(lambda: upstream.requests("POST"))
    await kill_during_request(asking, restartable)
    upstream.always("POST", STUDIO_RUN, prompt_studio_reply("a second run"))
    first, second = [await restartable.post(PROMPT_STUDIO_BODY, Idempotency_Key="one") for _ in range(2)]
    assert (502, "unknown", False) == (first.status, first.json["outcome"], first.json["retryable"])
    assert ("true", "true") == (first.headers["Idempotent-Replayed"], second.headers["Idempotent-Replayed"])
    assert (first.status, first.body) == (second.status, second.body)
    assert 1 == len(upstream.requests("POST"))


async def test_an_interrupted_start_at_promptlayer_is_unknown(
    upstream: FakeUpstream, restartable: RestartableGateway
) -> None:
    """R44: without the execution id it cannot be polled either."""
    upstream.always("POST", LAYER_RUN, faults.hang)
    await restartable.start()
    asking = asyncio.create_task(restartable.post(PROMPTLAYER_BODY, Idempotency_Key="one"))
    await wait_until(lambda: upstream.requests("POST"))
    await kill_during_request(asking, restartable)
    answered = await restartable.post(PROMPTLAYER_BODY, Idempotency_Key="one")
    assert (502, "unknown") == (answered.status, answered.json["outcome"])
    assert 1 == len(upstream.received)


async def test_a_known_execution_is_polled_for_the_same_key(
    upstream: FakeUpstream, restartable: RestartableGateway
) -> None:
    """R44: PromptLayer can be polled: the key answers 409 during the run, then its result; one start."""
    upstream.script("POST", LAYER_RUN, [promptlayer_started(77)])
    upstream.always("GET", LAYER_RESULTS, promptlayer_running())
    await restartable.start()
    asking = asyncio.create_task(restartable.post(PROMPTLAYER_BODY, Idempotency_Key="one"))
    await wait_until(lambda: len(upstream.requests("GET")) >= 2)
    await kill_during_request(asking, restartable)
    early = await restartable.post(PROMPTLAYER_BODY, Idempotency_Key="one")
    assert (409, "idempotency_in_flight") == early.summary[:2]
    assert "1" == early.headers["Retry-After"]
    upstream.always("GET", LAYER_RESULTS, DONE)
    answered = await restartable.post_until_finished(PROMPTLAYER_BODY, "one")
    assert (200, "succeeded", "because") == (answered.status, answered.json["status"], answered.json["output"])
    assert ("77", 1) == (answered.json["provider_run_id"], answered.json["attempts"])
    assert {RESULTS_TARGET} == {request.target for request in upstream.requests("GET")}
    assert 1 == len(upstream.requests("POST"))


async def test_a_key_whose_run_was_never_sent_is_free(upstream: FakeUpstream, restartable: RestartableGateway) -> None:
    """A waiting client that was cut off in the queue ordered nothing: its key starts the run, once."""
    upstream.always("POST", LAYER_RUN, promptlayer_started(77))
    upstream.always("GET", LAYER_RESULTS, promptlayer_running())
    await restartable.start(providers=ONE_AT_A_TIME)
    ahead = await restartable.submit_async(PROMPTLAYER_BODY)
    await wait_until(lambda: upstream.requests("GET"))
    asking = asyncio.create_task(restartable.post(PROMPTLAYER_BODY, Idempotency_Key="one"))
    await asyncio.sleep(0.3)  # by then it is behind the other one
    upstream.always("GET", LAYER_RESULTS, DONE)
    await kill_during_request(asking, restartable)
    assert "succeeded" == (await restartable.wait_for_end(ahead))["status"]
    await asyncio.sleep(0.3)  # long enough to start it, were that meant
    assert 1 == len(upstream.requests("POST"))
    assert 200 == (await restartable.post(PROMPTLAYER_BODY, Idempotency_Key="one")).status
    assert 2 == len(upstream.requests("POST"))


@pytest.mark.parametrize("body", [PROMPT_STUDIO_BODY, PROMPTLAYER_BODY], ids=["studio", "layer"])
async def test_an_accepted_run_is_known_after_a_crash(
    upstream: FakeUpstream, restartable: RestartableGateway, body: Mapping[str, JsonValue]
) -> None:
    """R47: SIGKILL right after 202: GET /runs/{id} knows the run, and it ends with one start at most."""
    upstream.always("POST", STUDIO_RUN, prompt_studio_reply("because"))
    upstream.always("POST", LAYER_RUN, promptlayer_started(77))
    upstream.always("GET", LAYER_RESULTS, DONE)
    await restartable.start()
    run_id = await restartable.submit_async(body)
    await restartable.kill_and_restart()
    assert run_id == (await restartable.get_run(run_id))["id"]
    ended = await restartable.wait_for_end(run_id)
    assert ended["status"] in {"succeeded", "unknown"}
    assert len(upstream.requests("POST")) <= 1
    if ended["status"] == "succeeded":
        assert ("because", 1) == (ended["output"], len(upstream.requests("POST")))


async def test_polling_continues_after_a_crash(
    upstream: FakeUpstream, receiver: FakeUpstream, restartable: RestartableGateway
) -> None:
    """R48: killed while polling: the same execution is polled, one start, one webhook-id on every delivery."""
    upstream.script("POST", LAYER_RUN, [promptlayer_started(77)])
    upstream.always("GET", LAYER_RESULTS, promptlayer_running())
    receiver.script("POST", CALLBACK_PATH, [reply(500), faults.rst_after_request])
    await restartable.start()
    run_id = await restartable.submit_async({**PROMPTLAYER_BODY, "callback_url": receiver.url + CALLBACK_PATH})
    await wait_until(lambda: len(upstream.requests("GET")) >= 2)
    await restartable.kill_and_restart()
    polls = len(upstream.requests("GET"))
    await wait_until(lambda: len(upstream.requests("GET")) >= polls + 2)
    assert "running" == (await restartable.get_run(run_id))["status"]
    upstream.always("GET", LAYER_RESULTS, DONE)
    ended = await restartable.wait_for_end(run_id)
    assert ("succeeded", "because", 1) == (ended["status"], ended["output"], ended["attempts"])
    assert {RESULTS_TARGET} == {request.target for request in upstream.requests("GET")}
    assert 1 == len(upstream.requests("POST"))
    assert {"state": "delivered"} == await restartable.wait_for_callback(run_id)
    assert [ended["status"]] * 3 == [delivered_run(each)["status"] for each in deliveries(receiver)]
    assert {f"msg_{run_id}"} == message_ids(receiver)


async def test_callback_delivery_continues_after_a_crash(
    upstream: FakeUpstream, receiver: FakeUpstream, restartable: RestartableGateway
) -> None:
    """R48: killed between two deliveries: the next gateway makes the second one, with the same webhook-id and body."""
    upstream.always("POST", STUDIO_RUN, prompt_studio_reply("because"))
    receiver.script("POST", CALLBACK_PATH, [reply(503, headers={"Retry-After": "2"})])
    await restartable.start()
    run_id = await restartable.submit_async({**PROMPT_STUDIO_BODY, "callback_url": receiver.url + CALLBACK_PATH})
    await wait_until(lambda: deliveries(receiver))
    await asyncio.sleep(0.3)  # long enough to write the answer down
    await restartable.kill_and_restart()
    assert {"state": "delivered"} == await restartable.wait_for_callback(run_id)
    first, second = deliveries(receiver)
    assert (first.body, first.header("webhook-id")) == (second.body, second.header("webhook-id"))


async def test_an_interrupted_asynchronous_start_ends_as_unknown(
    upstream: FakeUpstream, receiver: FakeUpstream, restartable: RestartableGateway
) -> None:
    """R49: both GET /runs/{id} and the callback report it, and nothing is started again."""
    upstream.always("POST", LAYER_RUN, faults.hang)
    await restartable.start()
    run_id = await restartable.submit_async({**PROMPTLAYER_BODY, "callback_url": receiver.url + CALLBACK_PATH})
    await wait_until(lambda: upstream.requests("POST"))
    await restartable.kill_and_restart()
    ended = await restartable.wait_for_end(run_id)
    assert ("unknown", None, 1) == (ended["status"], ended["provider_run_id"], ended["attempts"])
    assert {"state": "delivered"} == await restartable.wait_for_callback(run_id)
    (delivery,) = deliveries(receiver)
    assert {**delivered_run(delivery), "callback": {"state": "delivered"}} == await restartable.get_run(run_id)
    assert 1 == len(upstream.received)


async def test_a_queued_run_is_started_once_after_a_crash(
    upstream: FakeUpstream, receiver: FakeUpstream, restartable: RestartableGateway
) -> None:
    """An accepted run that waited for its provider's limit is started after the crash, exactly once."""
    upstream.script("POST", LAYER_RUN, [promptlayer_started(77), promptlayer_started(78)])
    upstream.always("GET", LAYER_RESULTS, promptlayer_running())
    await restartable.start(providers=ONE_AT_A_TIME)
    ahead = await restartable.submit_async(PROMPTLAYER_BODY)
    await wait_until(lambda: upstream.requests("GET"))
    queued = await restartable.submit_async({**PROMPTLAYER_BODY, "callback_url": receiver.url + CALLBACK_PATH})
    assert ("running", "queued") == (
        (await restartable.get_run(ahead))["status"],
        (await restartable.get_run(queued))["status"],
    )
    await restartable.kill_and_restart()
    upstream.always("GET", LAYER_RESULTS, DONE)
    ended = [await restartable.wait_for_end(run_id) for run_id in (ahead, queued)]
    assert [("succeeded", "77"), ("succeeded", "78")] == [(run["status"], run["provider_run_id"]) for run in ended]
    assert {"state": "delivered"} == await restartable.wait_for_callback(queued)
    assert {f"msg_{queued}"} == message_ids(receiver)
    assert 2 == len(upstream.requests("POST"))


async def test_a_process_that_cannot_listen_starts_nothing(
    upstream: FakeUpstream, restartable: RestartableGateway
) -> None:
    """A process that fails at startup because its port is taken must not have sent a start."""
    upstream.script("POST", LAYER_RUN, [faults.hang, promptlayer_started(78)])
    upstream.always("GET", LAYER_RESULTS, DONE)
    await restartable.start(providers=ONE_AT_A_TIME)
    await restartable.submit_async(PROMPTLAYER_BODY)
    await wait_until(lambda: upstream.requests("POST"))
    queued = await restartable.submit_async(PROMPTLAYER_BODY)
    assert -9 == await restartable.current.kill()
    with socket.create_server(("127.0.0.1", 0)) as held, pytest.raises(GatewayExitedError, match="cannot listen"):
        await restartable.start(server={"ops_port": held.getsockname()[1]})
    assert 1 == len(upstream.requests("POST"))
    await restartable.start(server={"ops_port": 0})
    ended = await restartable.wait_for_end(queued)
    assert ("succeeded", 1) == (ended["status"], ended["attempts"])
    assert 2 == len(upstream.requests("POST"))


async def test_a_finished_run_survives_a_crash(upstream: FakeUpstream, restartable: RestartableGateway) -> None:
    """A finished run is shown and replayed unchanged, and not executed again."""
    upstream.always("POST", STUDIO_RUN, prompt_studio_reply("because"))
    await restartable.start()
    answered = await restartable.post(PROMPT_STUDIO_BODY, Idempotency_Key="one")
    shown = await restartable.get_run(str(answered.json["id"]))
    await restartable.kill_and_restart()
    assert shown == await restartable.get_run(str(answered.json["id"]))
    again = await restartable.post(PROMPT_STUDIO_BODY, Idempotency_Key="one")
    assert (200, answered.body, "true") == (again.status, again.body, again.headers["Idempotent-Replayed"])
    assert 1 == len(upstream.requests("POST"))


async def test_an_accepted_run_with_a_key_is_accepted_the_same_again(
    upstream: FakeUpstream, restartable: RestartableGateway
) -> None:
    """R44, R47: after the crash the key gives the same 202, byte for byte, whatever the state of the run."""
    upstream.always("POST", LAYER_RUN, faults.hang)
    await restartable.start()
    headers = {"Idempotency_Key": "one", "Prefer": "respond-async"}
    first = await restartable.post(PROMPTLAYER_BODY, **headers)
    await wait_until(lambda: upstream.requests("POST"))
    await restartable.kill_and_restart()
    second = await restartable.post(PROMPTLAYER_BODY, **headers)
    assert (202, first.body, first.headers["Location"]) == (second.status, second.body, second.headers["Location"])
    assert "unknown" == (await restartable.wait_for_end(str(first.json["id"])))["status"]
    assert 1 == len(upstream.requests("POST"))


async def test_a_crash_renews_no_daily_quota(upstream: FakeUpstream, restartable: RestartableGateway) -> None:
    """R85."""
    upstream.always("POST", STUDIO_RUN, prompt_studio_reply("because"))
    await restartable.start(clients={"one": {"limits": {"daily": 3}}})
    statuses = [(await restartable.post(PROMPT_STUDIO_BODY)).status for _ in range(2)]
    for _ in range(2):
        await restartable.kill_and_restart()
        statuses += [(await restartable.post(PROMPT_STUDIO_BODY)).status for _ in range(2)]
    assert [200, 200, 200, 429, 429, 429] == statuses
    assert 3 == len(upstream.requests("POST"))
