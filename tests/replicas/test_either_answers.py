"""A run is everybody's: ordered at one replica, asked for, streamed and told at the other."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.api.promptlayer.client import Client, number_of
from tests.api.promptlayer.waiting import say, told
from tests.client import LAYER, STUDIO, bearer
from tests.durable.lives import FINAL, PATIENCE, until
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

if TYPE_CHECKING:
    import aiohttp

    from tests.faults.upstream import Upstream
    from tests.faults.wire import Wire
    from tests.process import Gateway
    from tests.replicas.fleet import Fleet

SUFFIX = "a-suffix"
BEFORE = f"workflows:layer:run:{SUFFIX}"
"""The channel on which Python's SDK waits before it starts a run."""


class Slow:
    """Prompt Studio, whose runs end when the test says so; and PromptLayer, likewise."""

    def __init__(self, upstream: Upstream) -> None:
        self._go = asyncio.Event()
        self._upstream = upstream
        upstream.always("POST", STUDIO_RUN, self._run)
        upstream.always("POST", LAYER_RUN, promptlayer_started(77))
        upstream.always("GET", LAYER_RESULTS, promptlayer_running())

    def end(self) -> None:
        self._go.set()
        self._upstream.always("GET", LAYER_RESULTS, promptlayer_done({"Answer": node("because")}))

    async def _run(self, wire: Wire) -> None:
        await self._go.wait()
        await prompt_studio_reply("because")(wire)


@pytest.fixture
def slow(upstream: Upstream) -> Slow:
    return Slow(upstream)


def layer(fleet: Fleet) -> tuple[Client, Client]:
    """The same client of PromptLayer's API at each replica."""
    return Client(fleet.session, fleet.one.now), Client(fleet.session, fleet.two.now)


async def events(fleet: Fleet, gateway: Gateway, run_id: str) -> list[tuple[str, Any]]:
    """Stream a run to its end: the name of each event, and its document."""
    heard = []
    headers = bearer("one") | {"Accept": "text/event-stream"}
    async with asyncio.timeout(PATIENCE), fleet.session.get(f"{gateway.url}/runs/{run_id}", headers=headers) as stream:
        async for line in stream.content:
            word, _, rest = line.decode().strip().partition(": ")
            if word == "event":
                heard.append((rest, None))
            elif word == "data":
                heard[-1] = heard[-1][0], json.loads(rest)
    return heard


async def test_a_run_is_waited_for_at_the_other(fleet: Fleet, slow: Slow, upstream: Upstream) -> None:
    """R45, R46: its 202 here; `?wait=`, the stream and the list there; who waits is woken when it ends."""
    await fleet.begin()
    run_id = await fleet.one.accepted(STUDIO)
    waiting = asyncio.create_task(fleet.two.shown(run_id, wait=25))
    streaming = asyncio.create_task(events(fleet, fleet.two.now, run_id))
    await until(lambda: upstream.requests("POST"))
    assert "running" == (await fleet.two.shown(run_id))["status"]
    slow.end()
    there = await asyncio.wait_for(waiting, PATIENCE)
    heard = await streaming
    assert ("succeeded", "because") == (there["status"], there["output"])
    assert there == await fleet.one.shown(run_id) == heard[-1][1]
    names = [name for name, _ in heard]  # what lasted for a moment only may be left out
    assert [name for name in ("queued", "running", "succeeded") if name in names] == names
    async with fleet.session.get(f"{fleet.two.now.url}/runs", headers=bearer("one")) as listed:
        assert [run_id] == [run["id"] for run in (await listed.json())["runs"]]
    assert 1 == len(upstream.requests("POST"))


async def test_a_run_of_promptlayers_api_is_found_by_its_number_at_the_other(
    fleet: Fleet, slow: Slow, upstream: Upstream
) -> None:
    """R45: started here, results there, while it goes on and once it has ended; to another client it is nothing."""
    await fleet.begin()
    here, there = layer(fleet)
    started = await here.run()
    status, found = await there.results(number_of(started))
    assert 202 == status, found
    slow.end()
    assert "because" == await there.ended(started)
    assert 404 == (await there.other().results(number_of(started)))[0]
    assert 1 == len(upstream.requests("POST", LAYER_RUN))


async def test_the_same_channel_at_both_at_once_is_one_run(fleet: Fleet, slow: Slow, upstream: Upstream) -> None:
    """R45: what an SDK sends again comes to another replica, and is the same run."""
    slow.end()
    await fleet.begin()
    here, there = layer(fleet)
    for number in range(10):
        more = {"channel_name_suffix": f"{SUFFIX}-{number}"}
        answers = await asyncio.gather(*(each.run(more=more) for each in (here, there)))
        assert {201, 409} >= {answer.status for answer in answers}
        taken = [answer for answer in answers if answer.status == 201]
        assert 1 == len({number_of(answer) for answer in taken})
        assert "because" == await there.ended(taken[0])
    assert 10 == len(upstream.requests("POST", LAYER_RUN))


async def connected(client: Client, token: str) -> aiohttp.ClientWebSocketResponse:
    """A WebSocket at this client's replica."""
    session = client._session
    socket = await session.ws_connect(client.gateway.url + "/connection/websocket", max_msg_size=0)
    assert "connect" in await say(socket, {"id": 1, "connect": {"token": token, "name": "test"}})
    return socket


async def ticket(client: Client, channel: str) -> str:
    """A ticket for one channel."""
    answered = await client.ask("POST", f"/ws-token-request-library?capability={channel}")
    assert 201 == answered.status
    details = answered.json["token_details"]
    assert isinstance(details, dict)
    return str(details["token"])


async def test_who_subscribed_here_is_told_of_a_run_there(fleet: Fleet, slow: Slow) -> None:
    """R45: Python's order: ticket from one, WebSocket at the other, then the start at the one."""
    await fleet.begin()
    here, there = layer(fleet)
    socket = await connected(there, await ticket(here, BEFORE))
    assert {"id": 2, "subscribe": {}} == await say(socket, {"id": 2, "subscribe": {"channel": BEFORE}})
    started = await here.run(more={"channel_name_suffix": SUFFIX})
    slow.end()
    channel, message = await told(socket)
    assert (BEFORE, number_of(started), "because") == (
        channel, message["workflow_version_execution_id"], message["final_output"]
    )  # fmt: skip
    await socket.close()


async def test_who_subscribes_afterwards_is_told_too(fleet: Fleet, slow: Slow) -> None:
    """R45: JavaScript's order: the start at one, then ticket and WebSocket at the other; however late."""
    await fleet.begin()
    here, there = layer(fleet)
    started = await here.run()
    slow.end()
    channel = f"workflow_updates:{number_of(started)}"
    for client in (there, here):
        socket = await connected(client, await ticket(there, channel))
        assert {"id": 2, "subscribe": {}} == await say(socket, {"id": 2, "subscribe": {"channel": channel}})
        assert "because" == (await told(socket))[1]["final_output"]
        await socket.close()


async def test_numbers_and_tickets_outlive_all_replicas(fleet: Fleet, slow: Slow, upstream: Upstream) -> None:
    """R48: what they are made with is the store's, not a process's."""
    await fleet.begin()
    started, pass_ = await layer(fleet)[0].run(), await ticket(layer(fleet)[1], BEFORE)
    slow.end()
    before = await layer(fleet)[1].ended(started)
    await asyncio.gather(*(each.now.kill() for each in fleet.both))
    await fleet.begin()
    here, there = layer(fleet)
    assert before == await here.ended(started) == await there.ended(started)
    socket = await connected(here, pass_)
    assert {"id": 2, "subscribe": {}} == await say(socket, {"id": 2, "subscribe": {"channel": BEFORE}})
    again = await there.run(more={"channel_name_suffix": SUFFIX})
    assert number_of(again) == (await told(socket))[1]["workflow_version_execution_id"]
    await socket.close()
    assert 2 == len(upstream.requests("POST", LAYER_RUN))


async def test_a_kept_answer_is_found_by_its_run_at_the_other(fleet: Fleet, slow: Slow) -> None:
    """R37: a client that waited with a key may look its run up wherever it likes."""
    slow.end()
    await fleet.begin()
    answered = await fleet.one.post(LAYER, Idempotency_Key="one")
    shown = await fleet.two.shown(str(answered.json["id"]))
    assert shown["status"] in FINAL
    assert answered.json == shown
