"""What was answered with a number is not lost and not doubled: power cuts, callbacks, a store that fails."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.api.promptlayer.client import Client, number_of
from tests.durable.lives import CALLBACK_SECRETS, Lives, until
from tests.durable.receiver import HOOK, deliveries, message_ids, verify
from tests.faults.answers import reply
from tests.faults.provider_answers import (
    LAYER_RESULTS,
    LAYER_RUN,
    node,
    promptlayer_done,
    promptlayer_running,
    promptlayer_started,
)
from tests.faults.upstream import Upstream

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    import aiohttp

    from providers.contract import JsonValue
    from tests.conftest import StartGateway

ANSWER = node("because “ü”")
ONE_AT_A_TIME: dict[str, JsonValue] = {"promptlayer": {"limits": {"concurrency": 1, "max_wait": "20s"}}}


@pytest.fixture
async def receiver() -> AsyncIterator[Upstream]:
    """Somebody who takes every callback."""
    async with Upstream() as running:
        running.default = reply(204)
        yield running


@pytest.fixture
def lives(gateway: StartGateway, session: aiohttp.ClientSession, upstream: Upstream, tmp_path: Path) -> Lives:
    """Gateways on one file; PromptLayer is well."""
    upstream.always("POST", LAYER_RUN, promptlayer_started(77))
    upstream.always("GET", LAYER_RESULTS, promptlayer_done({"Draft": node("d", is_output=False), "Answer": ANSWER}))
    return Lives(gateway, session, tmp_path / "runward.db")


async def test_a_power_cut_right_after_the_answer(
    upstream: Upstream, lives: Lives, session: aiohttp.ClientSession
) -> None:
    """Kill -9 between the 201 and the start: the next process starts it, once."""
    for _ in range(3):
        upstream.log.clear()
        started = await Client(session, await lives.begin()).run()
        number_of(started)
        await lives.die_and_begin()
        ended = await lives.ended(started.headers["Runward-Run-Id"])
        assert ended["status"] in {"succeeded", "unknown"}
        assert len(upstream.requests("POST")) <= 1
        await lives.now.stop()


async def test_what_waits_in_line_is_started_by_the_next_process(
    upstream: Upstream, lives: Lives, session: aiohttp.ClientSession
) -> None:
    """Answered, and certainly not sent yet: it runs after the power cut, exactly once."""
    upstream.always("GET", LAYER_RESULTS, promptlayer_running())
    app = Client(session, await lives.begin(providers=ONE_AT_A_TIME))
    ahead = await app.run()
    await until(lambda: upstream.requests("GET"))
    behind = await app.run()
    assert 1 == len(upstream.requests("POST"))
    upstream.always("GET", LAYER_RESULTS, promptlayer_done({"Answer": ANSWER}))
    await lives.die_and_begin()
    for started in (ahead, behind):
        assert "succeeded" == (await lives.ended(started.headers["Runward-Run-Id"]))["status"]
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
    receiver: Upstream, lives: Lives, session: aiohttp.ClientSession, final: JsonValue, *, every: bool | None
) -> None:
    """202; the payload that PromptLayer documents, in the form that was asked for; our signature over it."""
    receiver.script("POST", HOOK, [reply(500)])
    app = Client(session, await lives.begin())
    started = await app.run("layer", {"callback_url": receiver.url + HOOK, "return_all_outputs": every})
    assert (202, "Workflow execution accepted") == (started.status, started.json["message"])
    run_id = started.headers["Runward-Run-Id"]
    assert {"state": "delivered"} == await lives.told(run_id)
    assert {f"msg_{run_id}"} == message_ids(receiver)
    for delivery in deliveries(receiver):
        verify(delivery, CALLBACK_SECRETS["RUNWARD_CALLBACK_SECRET"])
        expected = {"workflow_version_execution_id": number_of(started), "final_output": final}
        assert expected == json.loads(delivery.body)
    assert 2 == len(deliveries(receiver))


async def test_a_callback_after_a_power_cut_is_still_promptlayers(
    upstream: Upstream, receiver: Upstream, lives: Lives, session: aiohttp.ClientSession
) -> None:
    """What was asked for is kept with the run: its number, and the form of its results."""
    upstream.always("GET", LAYER_RESULTS, promptlayer_running())
    app = Client(session, await lives.begin())
    started = await app.run("layer", {"callback_url": receiver.url + HOOK})
    await until(lambda: upstream.requests("GET"))
    upstream.always("GET", LAYER_RESULTS, promptlayer_done({"Answer": node(None, "FAILED", error="no")}))
    await lives.die_and_begin()
    assert {"state": "delivered"} == await lives.told(started.headers["Runward-Run-Id"])
    [delivery] = deliveries(receiver)
    told = json.loads(delivery.body)
    assert number_of(started) == told["workflow_version_execution_id"]
    assert ("FAILED", "no") == (
        told["final_output"]["Answer"]["status"],
        told["final_output"]["Answer"]["error_message"],
    )


async def test_a_key_is_known_after_a_power_cut(
    upstream: Upstream, lives: Lives, session: aiohttp.ClientSession
) -> None:
    """Byte for byte the same answer, and no second start."""
    app = Client(session, await lives.begin())
    started = await app.run("layer", Idempotency_Key="order-7")
    await lives.ended(started.headers["Runward-Run-Id"])
    app = Client(session, await lives.die_and_begin())
    again = await app.run("layer", Idempotency_Key="order-7")
    assert (201, started.body) == (again.status, again.body)
    assert 1 == len(upstream.requests("POST"))


async def test_a_channel_beside_a_key_is_one_run(lives: Lives, session: aiohttp.ClientSession) -> None:
    app = Client(session, await lives.begin())
    more: dict[str, JsonValue] = {"channel_name_suffix": "a71d"}
    answers = [await app.run("layer", more, Idempotency_Key="one"), await app.run("layer", more)]
    answers += [await app.run("layer", more, Idempotency_Key="two")]
    assert 1 == len({answered.body for answered in answers})
