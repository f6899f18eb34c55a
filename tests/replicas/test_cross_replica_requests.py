"""Requests across replicas: a run is started at one replica, read, streamed and awaited at the other."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.api.promptlayer.app_client import PromptLayerApp, execution_id_of
from tests.api.promptlayer.realtime_harness import receive_message, send_command
from tests.support.client import PROMPT_STUDIO_BODY, PROMPTLAYER_BODY, auth_headers
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
from tests.support.gateway_restarts import FINAL_STATUSES
from tests.support.waiting import WAIT_TIMEOUT, wait_until

if TYPE_CHECKING:
    import aiohttp

    from tests.replicas.replica_pair import ReplicaPair
    from tests.support.fake_upstream.connection import UpstreamConnection
    from tests.support.fake_upstream.upstream import FakeUpstream
    from tests.support.process import GatewayProcess

SUFFIX = "a-suffix"
SDK_CHANNEL = f"workflows:layer:run:{SUFFIX}"
"""The channel on which Python's SDK waits before it starts a run."""


class HeldProviders:
    """Fake Prompt Studio and PromptLayer whose runs end on demand."""

    def __init__(self, upstream: FakeUpstream) -> None:
        self._released = asyncio.Event()
        self._upstream = upstream
        upstream.always("POST", STUDIO_RUN, self._run)
        upstream.always("POST", LAYER_RUN, promptlayer_started(77))
        upstream.always("GET", LAYER_RESULTS, promptlayer_running())

    def end(self) -> None:
        self._released.set()
        self._upstream.always("GET", LAYER_RESULTS, promptlayer_done({"Answer": node("because")}))

    async def _run(self, wire: UpstreamConnection) -> None:
        await self._released.wait()
        await prompt_studio_reply("because")(wire)


@pytest.fixture
def held_providers(upstream: FakeUpstream) -> HeldProviders:
    return HeldProviders(upstream)


def promptlayer_clients(replicas: ReplicaPair) -> tuple[PromptLayerApp, PromptLayerApp]:
    """The same client of PromptLayer's API at each replica."""
    return PromptLayerApp(replicas.session, replicas.one.current), PromptLayerApp(
        replicas.session, replicas.two.current
    )


async def stream_events(replicas: ReplicaPair, gateway: GatewayProcess, run_id: str) -> list[tuple[str, Any]]:
    """Stream a run to its end; returns the name and document of each event."""
    heard = []
    headers = auth_headers("one") | {"Accept": "text/event-stream"}
    async with (
        asyncio.timeout(WAIT_TIMEOUT),
        replicas.session.get(f"{gateway.url}/runs/{run_id}", headers=headers) as stream,
    ):
        async for line in stream.content:
            word, _, rest = line.decode().strip().partition(": ")
            if word == "event":
                heard.append((rest, None))
            elif word == "data":
                heard[-1] = heard[-1][0], json.loads(rest)
    return heard


async def test_a_run_is_waited_for_at_the_other(
    replicas: ReplicaPair, held_providers: HeldProviders, upstream: FakeUpstream
) -> None:
    """R45, R46: 202 at one replica; `?wait=`, stream and list at the other; waiting requests are woken at its end."""
    await replicas.start()
    run_id = await replicas.one.submit_async(PROMPT_STUDIO_BODY)
    waiting = asyncio.create_task(replicas.two.get_run(run_id, wait=25))
    streaming = asyncio.create_task(stream_events(replicas, replicas.two.current, run_id))
    await wait_until(lambda: upstream.requests("POST"))
    assert "running" == (await replicas.two.get_run(run_id))["status"]
    held_providers.end()
    there = await asyncio.wait_for(waiting, WAIT_TIMEOUT)
    heard = await streaming
    assert ("succeeded", "because") == (there["status"], there["output"])
    assert there == await replicas.one.get_run(run_id) == heard[-1][1]
    names = [name for name, _ in heard]  # what lasted for a moment only may be left out
    assert [name for name in ("queued", "running", "succeeded") if name in names] == names
    async with replicas.session.get(f"{replicas.two.current.url}/runs", headers=auth_headers("one")) as listed:
        assert [run_id] == [run["id"] for run in (await listed.json())["runs"]]
    assert 1 == len(upstream.requests("POST"))


async def test_a_run_of_promptlayers_api_is_found_by_its_number_at_the_other(
    replicas: ReplicaPair, held_providers: HeldProviders, upstream: FakeUpstream
) -> None:
    """R45: started at one, results at the other, during and after the run; unknown to another client."""
    await replicas.start()
    here, there = promptlayer_clients(replicas)
    started = await here.start_run()
    status, found = await there.get_results(execution_id_of(started))
    assert 202 == status, found
    held_providers.end()
    assert "because" == await there.wait_for_results(started)
    assert 404 == (await there.as_other_client().get_results(execution_id_of(started)))[0]
    assert 1 == len(upstream.requests("POST", LAYER_RUN))


async def test_the_same_channel_at_both_at_once_is_one_run(
    replicas: ReplicaPair, held_providers: HeldProviders, upstream: FakeUpstream
) -> None:
    """R45: a retry of an SDK reaches another replica, and is the same run."""
    held_providers.end()
    await replicas.start()
    here, there = promptlayer_clients(replicas)
    for number in range(10):
        more = {"channel_name_suffix": f"{SUFFIX}-{number}"}
        answers = await asyncio.gather(*(each.start_run(more=more) for each in (here, there)))
        assert {201, 409} >= {answer.status for answer in answers}
        taken = [answer for answer in answers if answer.status == 201]
        assert 1 == len({execution_id_of(answer) for answer in taken})
        assert "because" == await there.wait_for_results(taken[0])
    assert 10 == len(upstream.requests("POST", LAYER_RUN))


async def connect_websocket(client: PromptLayerApp, token: str) -> aiohttp.ClientWebSocketResponse:
    """Open a WebSocket at this client's replica."""
    session = client._session
    socket = await session.ws_connect(client.gateway.url + "/connection/websocket", max_msg_size=0)
    assert "connect" in await send_command(socket, {"id": 1, "connect": {"token": token, "name": "test"}})
    return socket


async def channel_token(client: PromptLayerApp, channel: str) -> str:
    """Request a token for one channel."""
    answered = await client.request("POST", f"/ws-token-request-library?capability={channel}")
    assert 201 == answered.status
    details = answered.json["token_details"]
    assert isinstance(details, dict)
    return str(details["token"])


async def test_a_subscriber_at_one_replica_receives_the_result_of_a_run_at_the_other(
    replicas: ReplicaPair, held_providers: HeldProviders
) -> None:
    """R45: order of the Python SDK: token from one, WebSocket at the other, then the start at the first."""
    await replicas.start()
    here, there = promptlayer_clients(replicas)
    socket = await connect_websocket(there, await channel_token(here, SDK_CHANNEL))
    assert {"id": 2, "subscribe": {}} == await send_command(socket, {"id": 2, "subscribe": {"channel": SDK_CHANNEL}})
    started = await here.start_run(more={"channel_name_suffix": SUFFIX})
    held_providers.end()
    channel, message = await receive_message(socket)
    assert (SDK_CHANNEL, execution_id_of(started), "because") == (
        channel, message["workflow_version_execution_id"], message["final_output"]
    )  # fmt: skip
    await socket.close()


async def test_a_late_subscriber_gets_the_result_too(replicas: ReplicaPair, held_providers: HeldProviders) -> None:
    """R45: order of the JavaScript SDK: start at one, then token and WebSocket at the other, at any later time."""
    await replicas.start()
    here, there = promptlayer_clients(replicas)
    started = await here.start_run()
    held_providers.end()
    channel = f"workflow_updates:{execution_id_of(started)}"
    for client in (there, here):
        socket = await connect_websocket(client, await channel_token(there, channel))
        assert {"id": 2, "subscribe": {}} == await send_command(socket, {"id": 2, "subscribe": {"channel": channel}})
        assert "because" == (await receive_message(socket))[1]["final_output"]
        await socket.close()


async def test_execution_ids_and_channel_tokens_outlive_all_replicas(
    replicas: ReplicaPair, held_providers: HeldProviders, upstream: FakeUpstream
) -> None:
    """R48: their secrets are in the store, not in a process."""
    await replicas.start()
    started, token = (
        await promptlayer_clients(replicas)[0].start_run(),
        await channel_token(promptlayer_clients(replicas)[1], SDK_CHANNEL),
    )
    held_providers.end()
    before = await promptlayer_clients(replicas)[1].wait_for_results(started)
    await asyncio.gather(*(each.current.kill() for each in replicas.both))
    await replicas.start()
    here, there = promptlayer_clients(replicas)
    assert before == await here.wait_for_results(started) == await there.wait_for_results(started)
    socket = await connect_websocket(here, token)
    assert {"id": 2, "subscribe": {}} == await send_command(socket, {"id": 2, "subscribe": {"channel": SDK_CHANNEL}})
    again = await there.start_run(more={"channel_name_suffix": SUFFIX})
    assert execution_id_of(again) == (await receive_message(socket))[1]["workflow_version_execution_id"]
    await socket.close()
    assert 2 == len(upstream.requests("POST", LAYER_RUN))


async def test_a_kept_answer_is_found_by_its_run_at_the_other(
    replicas: ReplicaPair, held_providers: HeldProviders
) -> None:
    """R37: the run of a key can be looked up at any replica."""
    held_providers.end()
    await replicas.start()
    answered = await replicas.one.post(PROMPTLAYER_BODY, Idempotency_Key="one")
    shown = await replicas.two.get_run(str(answered.json["id"]))
    assert shown["status"] in FINAL_STATUSES
    assert answered.json == shown
