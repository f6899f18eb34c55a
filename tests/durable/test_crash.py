"""What a power cut leaves: no run is started twice, none is forgotten, and nobody is told more than is known."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING

import aiohttp
import pytest

from tests.client import LAYER, STUDIO
from tests.durable.lives import Lives, until
from tests.durable.receiver import HOOK, deliveries, document, message_ids
from tests.faults import faults
from tests.faults.answers import reply
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
from tests.faults.upstream import Upstream
from tests.process import DiedError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

    from providers.contract import JsonValue
    from tests.conftest import StartGateway

DONE = promptlayer_done({"Answer": node("because")})
POLLED = LAYER_RESULTS + "?workflow_version_execution_id=77&return_all_outputs=true"
ONE_AT_A_TIME: dict[str, JsonValue] = {"promptlayer": {"limits": {"concurrency": 1, "max_wait": "20s"}}}


@pytest.fixture
async def receiver() -> AsyncIterator[Upstream]:
    """Somebody who takes every callback."""
    async with Upstream() as running:
        running.default = reply(204)
        yield running


@pytest.fixture
def lives(gateway: StartGateway, session: aiohttp.ClientSession, tmp_path: Path) -> Lives:
    """Gateways on one file, none of them begun."""
    return Lives(gateway, session, tmp_path / "runward.db")


async def cut_off(asking: asyncio.Task[object], lives: Lives) -> None:
    """A power cut while a client waits; the next gateway lives."""
    await lives.die_and_begin()
    with pytest.raises(aiohttp.ClientError):
        await asking


async def test_a_start_that_was_cut_off_is_unknown_for_ever(upstream: Upstream, lives: Lives) -> None:
    """R44: Prompt Studio can not be asked, so the key answers 502, outcome unknown, each time the same; one start."""
    upstream.always("POST", STUDIO_RUN, faults.hang)
    await lives.begin()
    asking = asyncio.create_task(lives.post(STUDIO, Idempotency_Key="one"))
    await until(lambda: upstream.requests("POST"))
    await cut_off(asking, lives)
    upstream.always("POST", STUDIO_RUN, prompt_studio_reply("a second run"))
    first, second = [await lives.post(STUDIO, Idempotency_Key="one") for _ in range(2)]
    assert (502, "unknown", False) == (first.status, first.json["outcome"], first.json["retryable"])
    assert ("true", "true") == (first.headers["Idempotent-Replayed"], second.headers["Idempotent-Replayed"])
    assert (first.status, first.body) == (second.status, second.body)
    assert 1 == len(upstream.requests("POST"))


async def test_a_start_that_was_cut_off_at_promptlayer_is_unknown_too(upstream: Upstream, lives: Lives) -> None:
    """R44: without the execution's id nobody can ask about it either."""
    upstream.always("POST", LAYER_RUN, faults.hang)
    await lives.begin()
    asking = asyncio.create_task(lives.post(LAYER, Idempotency_Key="one"))
    await until(lambda: upstream.requests("POST"))
    await cut_off(asking, lives)
    answered = await lives.post(LAYER, Idempotency_Key="one")
    assert (502, "unknown") == (answered.status, answered.json["outcome"])
    assert 1 == len(upstream.log)


async def test_a_known_execution_is_followed_for_the_same_key(upstream: Upstream, lives: Lives) -> None:
    """R44: PromptLayer can be asked: the key answers 409 while the run goes on, then what became of it; one start."""
    upstream.script("POST", LAYER_RUN, [promptlayer_started(77)])
    upstream.always("GET", LAYER_RESULTS, promptlayer_running())
    await lives.begin()
    asking = asyncio.create_task(lives.post(LAYER, Idempotency_Key="one"))
    await until(lambda: len(upstream.requests("GET")) >= 2)
    await cut_off(asking, lives)
    early = await lives.post(LAYER, Idempotency_Key="one")
    assert (409, "idempotency_in_flight") == early.summary[:2]
    assert "1" == early.headers["Retry-After"]
    upstream.always("GET", LAYER_RESULTS, DONE)
    answered = await lives.post_until_told(LAYER, "one")
    assert (200, "succeeded", "because") == (answered.status, answered.json["status"], answered.json["output"])
    assert ("77", 1) == (answered.json["provider_run_id"], answered.json["attempts"])
    assert {POLLED} == {request.target for request in upstream.requests("GET")}
    assert 1 == len(upstream.requests("POST"))


async def test_a_key_whose_run_was_never_sent_is_free(upstream: Upstream, lives: Lives) -> None:
    """A waiting client that was cut off in the queue ordered nothing: its key starts the run, once."""
    upstream.always("POST", LAYER_RUN, promptlayer_started(77))
    upstream.always("GET", LAYER_RESULTS, promptlayer_running())
    await lives.begin(providers=ONE_AT_A_TIME)
    ahead = await lives.accepted(LAYER)
    await until(lambda: upstream.requests("GET"))
    asking = asyncio.create_task(lives.post(LAYER, Idempotency_Key="one"))
    await asyncio.sleep(0.3)  # by then it is behind the other one
    upstream.always("GET", LAYER_RESULTS, DONE)
    await cut_off(asking, lives)
    assert "succeeded" == (await lives.ended(ahead))["status"]
    await asyncio.sleep(0.3)  # long enough to start it, were that meant
    assert 1 == len(upstream.requests("POST"))
    assert 200 == (await lives.post(LAYER, Idempotency_Key="one")).status
    assert 2 == len(upstream.requests("POST"))


@pytest.mark.parametrize("body", [STUDIO, LAYER], ids=["studio", "layer"])
async def test_what_was_accepted_is_known(upstream: Upstream, lives: Lives, body: Mapping[str, JsonValue]) -> None:
    """R47: kill -9 right after 202: GET /runs/{id} knows the run, and it comes to its end with one start at most."""
    upstream.always("POST", STUDIO_RUN, prompt_studio_reply("because"))
    upstream.always("POST", LAYER_RUN, promptlayer_started(77))
    upstream.always("GET", LAYER_RESULTS, DONE)
    await lives.begin()
    run_id = await lives.accepted(body)
    await lives.die_and_begin()
    assert run_id == (await lives.shown(run_id))["id"]
    ended = await lives.ended(run_id)
    assert ended["status"] in {"succeeded", "unknown"}
    assert len(upstream.requests("POST")) <= 1
    if ended["status"] == "succeeded":
        assert ("because", 1) == (ended["output"], len(upstream.requests("POST")))


async def test_a_run_is_polled_on(upstream: Upstream, receiver: Upstream, lives: Lives) -> None:
    """R48: killed while polling: the same execution is asked about, one start, one webhook-id on every delivery."""
    upstream.script("POST", LAYER_RUN, [promptlayer_started(77)])
    upstream.always("GET", LAYER_RESULTS, promptlayer_running())
    receiver.script("POST", HOOK, [reply(500), faults.rst_after_request])
    await lives.begin()
    run_id = await lives.accepted({**LAYER, "callback_url": receiver.url + HOOK})
    await until(lambda: len(upstream.requests("GET")) >= 2)
    await lives.die_and_begin()
    polls = len(upstream.requests("GET"))
    await until(lambda: len(upstream.requests("GET")) >= polls + 2)
    assert "running" == (await lives.shown(run_id))["status"]
    upstream.always("GET", LAYER_RESULTS, DONE)
    ended = await lives.ended(run_id)
    assert ("succeeded", "because", 1) == (ended["status"], ended["output"], ended["attempts"])
    assert {POLLED} == {request.target for request in upstream.requests("GET")}
    assert 1 == len(upstream.requests("POST"))
    assert {"state": "delivered"} == await lives.told(run_id)
    assert [ended["status"]] * 3 == [document(each)["status"] for each in deliveries(receiver)]
    assert {f"msg_{run_id}"} == message_ids(receiver)


async def test_a_delivery_goes_on_after_a_crash(upstream: Upstream, receiver: Upstream, lives: Lives) -> None:
    """R48: killed between two deliveries: the next gateway makes the second one, with the same webhook-id and body."""
    upstream.always("POST", STUDIO_RUN, prompt_studio_reply("because"))
    receiver.script("POST", HOOK, [reply(503, headers={"Retry-After": "2"})])
    await lives.begin()
    run_id = await lives.accepted({**STUDIO, "callback_url": receiver.url + HOOK})
    await until(lambda: deliveries(receiver))
    await asyncio.sleep(0.3)  # long enough to write the answer down
    await lives.die_and_begin()
    assert {"state": "delivered"} == await lives.told(run_id)
    first, second = deliveries(receiver)
    assert (first.body, first.header("webhook-id")) == (second.body, second.header("webhook-id"))


async def test_an_async_start_that_was_cut_off_ends_as_unknown(
    upstream: Upstream, receiver: Upstream, lives: Lives
) -> None:
    """R49: GET /runs/{id} says so, the callback says so, nothing is started again."""
    upstream.always("POST", LAYER_RUN, faults.hang)
    await lives.begin()
    run_id = await lives.accepted({**LAYER, "callback_url": receiver.url + HOOK})
    await until(lambda: upstream.requests("POST"))
    await lives.die_and_begin()
    ended = await lives.ended(run_id)
    assert ("unknown", None, 1) == (ended["status"], ended["provider_run_id"], ended["attempts"])
    assert {"state": "delivered"} == await lives.told(run_id)
    (delivery,) = deliveries(receiver)
    assert {**document(delivery), "callback": {"state": "delivered"}} == await lives.shown(run_id)
    assert 1 == len(upstream.log)


async def test_what_was_queued_is_started_once(upstream: Upstream, receiver: Upstream, lives: Lives) -> None:
    """An accepted run that waited for its provider's limit is started after the crash, exactly once."""
    upstream.script("POST", LAYER_RUN, [promptlayer_started(77), promptlayer_started(78)])
    upstream.always("GET", LAYER_RESULTS, promptlayer_running())
    await lives.begin(providers=ONE_AT_A_TIME)
    ahead = await lives.accepted(LAYER)
    await until(lambda: upstream.requests("GET"))
    queued = await lives.accepted({**LAYER, "callback_url": receiver.url + HOOK})
    assert ("running", "queued") == ((await lives.shown(ahead))["status"], (await lives.shown(queued))["status"])
    await lives.die_and_begin()
    upstream.always("GET", LAYER_RESULTS, DONE)
    ended = [await lives.ended(run_id) for run_id in (ahead, queued)]
    assert [("succeeded", "77"), ("succeeded", "78")] == [(run["status"], run["provider_run_id"]) for run in ended]
    assert {"state": "delivered"} == await lives.told(queued)
    assert {f"msg_{queued}"} == message_ids(receiver)
    assert 2 == len(upstream.requests("POST"))


async def test_a_process_that_can_not_listen_starts_nothing(upstream: Upstream, lives: Lives) -> None:
    """One that ends at its start, because a port is taken, must not leave a start behind it on its way."""
    upstream.script("POST", LAYER_RUN, [faults.hang, promptlayer_started(78)])
    upstream.always("GET", LAYER_RESULTS, DONE)
    await lives.begin(providers=ONE_AT_A_TIME)
    await lives.accepted(LAYER)
    await until(lambda: upstream.requests("POST"))
    queued = await lives.accepted(LAYER)
    assert -9 == await lives.now.kill()
    with socket.create_server(("127.0.0.1", 0)) as held, pytest.raises(DiedError, match="can not listen"):
        await lives.begin(server={"ops_port": held.getsockname()[1]})
    assert 1 == len(upstream.requests("POST"))
    await lives.begin(server={"ops_port": 0})
    ended = await lives.ended(queued)
    assert ("succeeded", 1) == (ended["status"], ended["attempts"])
    assert 2 == len(upstream.requests("POST"))


async def test_an_end_survives(upstream: Upstream, lives: Lives) -> None:
    """What had ended is shown as it was, answered to its key as it was, and not run again."""
    upstream.always("POST", STUDIO_RUN, prompt_studio_reply("because"))
    await lives.begin()
    answered = await lives.post(STUDIO, Idempotency_Key="one")
    shown = await lives.shown(str(answered.json["id"]))
    await lives.die_and_begin()
    assert shown == await lives.shown(str(answered.json["id"]))
    again = await lives.post(STUDIO, Idempotency_Key="one")
    assert (200, answered.body, "true") == (again.status, again.body, again.headers["Idempotent-Replayed"])
    assert 1 == len(upstream.requests("POST"))


async def test_an_accepted_run_with_a_key_is_accepted_the_same_again(upstream: Upstream, lives: Lives) -> None:
    """R44, R47: after the crash the key gives the same 202, byte for byte, whatever became of the run."""
    upstream.always("POST", LAYER_RUN, faults.hang)
    await lives.begin()
    headers = {"Idempotency_Key": "one", "Prefer": "respond-async"}
    first = await lives.post(LAYER, **headers)
    await until(lambda: upstream.requests("POST"))
    await lives.die_and_begin()
    second = await lives.post(LAYER, **headers)
    assert (202, first.body, first.headers["Location"]) == (second.status, second.body, second.headers["Location"])
    assert "unknown" == (await lives.ended(str(first.json["id"])))["status"]
    assert 1 == len(upstream.requests("POST"))
