"""Realtime API: subscribers of a run's channel get its result; other clients do not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import aiohttp
import pytest

from gateway.store.contract import StoreUnavailable
from tests.api.promptlayer.realtime_harness import (
    KEYS,
    RealtimeHarness,
    realtime_server,
    receive_message,
    send_command,
    wait_closed,
)
from tests.support.waiting import wait_until

JAVASCRIPT_CHANNEL = "workflow_updates:7"
PYTHON_CHANNEL = "workflows:3:run:a71d"
COMPLETED = {"workflow_version_execution_id": 7, "result_code": "OK", "final_output": {"answer": 42}}


@pytest.fixture
async def harness() -> AsyncIterator[RealtimeHarness]:
    """Server without runs."""
    async with realtime_server() as running:
        yield running


async def test_a_subscription_before_the_run_receives_the_result(harness: RealtimeHarness) -> None:
    """As the Python SDK does: the execution id follows from the channel suffix before the run exists."""
    socket = await harness.subscribe(PYTHON_CHANNEL)
    number = harness.execution_ids.for_channel("one", "a71d")
    await harness.store_run(number)
    await harness.finish_run(number, {"answer": 42})
    assert (PYTHON_CHANNEL, {**COMPLETED, "workflow_version_execution_id": number}) == await receive_message(socket)


async def test_a_subscription_during_the_run_receives_the_result(harness: RealtimeHarness) -> None:
    """As the JavaScript SDK does."""
    await harness.store_run(7)
    socket = await harness.subscribe(JAVASCRIPT_CHANNEL)
    await harness.finish_run(7, {"answer": 42})
    assert (JAVASCRIPT_CHANNEL, COMPLETED) == await receive_message(socket)


async def test_a_subscription_after_the_run_receives_the_result(harness: RealtimeHarness) -> None:
    """The run may end before the subscription."""
    await harness.store_run(7)
    await harness.finish_run(7, {"answer": 42})
    assert (JAVASCRIPT_CHANNEL, COMPLETED) == await receive_message(await harness.subscribe(JAVASCRIPT_CHANNEL))


async def test_a_reconnected_client_receives_the_result_again(harness: RealtimeHarness) -> None:
    """With the same token: the first message may have been lost."""
    await harness.store_run(7)
    token = await harness.issue_token(JAVASCRIPT_CHANNEL)
    first = await harness.connect(token)
    await send_command(first, {"id": 2, "subscribe": {"channel": JAVASCRIPT_CHANNEL}})
    first._response.connection.transport.abort()  # type: ignore[union-attr]  # as a cable that is cut
    await harness.finish_run(7, {"answer": 42})
    for _ in range(2):
        again = await harness.connect(token)
        await send_command(again, {"id": 2, "subscribe": {"channel": JAVASCRIPT_CHANNEL}})
        assert (JAVASCRIPT_CHANNEL, COMPLETED) == await receive_message(again)


async def test_the_result_has_the_form_that_was_asked_for(harness: RealtimeHarness) -> None:
    """Every node, if the start had `return_all_outputs`."""
    await harness.store_run(7, all_outputs=True)
    await harness.finish_run(7, "text")
    _, message = await receive_message(await harness.subscribe(JAVASCRIPT_CHANNEL))
    assert {"Output"} == set(message["final_output"])
    assert ("SUCCESS", "text") == (
        message["final_output"]["Output"]["status"],
        message["final_output"]["Output"]["value"],
    )


async def test_a_large_result_is_announced_without_its_data(harness: RealtimeHarness) -> None:
    """The SDKs then request it."""
    await harness.store_run(7)
    await harness.finish_run(7, "x" * 300_000)
    expected = {"workflow_version_execution_id": 7, "result_code": "EXCEEDS_SIZE_LIMIT"}
    assert (JAVASCRIPT_CHANNEL, expected) == await receive_message(await harness.subscribe(JAVASCRIPT_CHANNEL))


async def test_a_result_that_is_sent_is_collected_and_one_that_is_announced_is_not(harness: RealtimeHarness) -> None:
    """An announced one counts once the SDK has fetched it."""
    collected: list[str] = []

    async def note(run_id: str) -> None:
        collected.append(run_id)

    harness.realtime.result_collected = note
    await harness.store_run(7)
    await harness.finish_run(7, {"answer": 42})
    assert (JAVASCRIPT_CHANNEL, COMPLETED) == await receive_message(await harness.subscribe(JAVASCRIPT_CHANNEL))
    await harness.store_run(8)
    await harness.finish_run(8, "x" * 300_000)
    channel = JAVASCRIPT_CHANNEL.replace("7", "8")
    _, message = await receive_message(await harness.subscribe(channel))
    assert "EXCEEDS_SIZE_LIMIT" == message["result_code"]
    assert [harness.realtime.execution_ids.run_id("one", 7)] == collected


async def test_another_clients_result_is_not_delivered(harness: RealtimeHarness) -> None:
    """An execution id of another client is an unknown run."""
    await harness.store_run(7, client="one")
    foreign, own = (
        await harness.subscribe(JAVASCRIPT_CHANNEL, "two"),
        await harness.subscribe(JAVASCRIPT_CHANNEL, "one"),
    )
    await harness.finish_run(7, {"answer": 42}, client="one")
    await receive_message(own)
    with pytest.raises(TimeoutError):
        await foreign.receive(timeout=0.2)


async def test_a_token_is_valid_for_its_channel_only(harness: RealtimeHarness) -> None:
    await harness.store_run(8)
    await harness.finish_run(8, "secret")
    socket = await harness.connect(await harness.issue_token(JAVASCRIPT_CHANNEL))
    refused = await send_command(socket, {"id": 2, "subscribe": {"channel": "workflow_updates:8"}})
    assert {"id": 2, "error": {"code": 103, "message": "permission denied"}} == refused


async def test_one_subscription_is_enough(harness: RealtimeHarness) -> None:
    """A second subscription is refused until the first one ends."""
    socket = await harness.subscribe(JAVASCRIPT_CHANNEL)
    assert 105 == (await send_command(socket, {"id": 3, "subscribe": {"channel": JAVASCRIPT_CHANNEL}}))["error"]["code"]
    assert {"id": 4, "unsubscribe": {}} == await send_command(
        socket, {"id": 4, "unsubscribe": {"channel": JAVASCRIPT_CHANNEL}}
    )
    assert {"id": 5, "subscribe": {}} == await send_command(
        socket, {"id": 5, "subscribe": {"channel": JAVASCRIPT_CHANNEL}}
    )
    await harness.store_run(7)
    await harness.finish_run(7, {"answer": 42})
    assert (JAVASCRIPT_CHANNEL, COMPLETED) == await receive_message(socket)


async def test_no_message_is_delivered_after_unsubscribing(harness: RealtimeHarness) -> None:
    socket = await harness.subscribe(JAVASCRIPT_CHANNEL)
    await send_command(socket, {"id": 3, "unsubscribe": {"channel": JAVASCRIPT_CHANNEL}})
    await harness.store_run(7)
    await harness.finish_run(7, {"answer": 42})
    with pytest.raises(TimeoutError):
        await socket.receive(timeout=0.1)


async def test_other_commands_are_not_available(harness: RealtimeHarness) -> None:
    """Only the gateway publishes."""
    socket = await harness.connect(await harness.issue_token(JAVASCRIPT_CHANNEL))
    others: list[dict[str, object]] = [
        {"publish": {"channel": JAVASCRIPT_CHANNEL, "data": {}}},
        {"rpc": {}},
        {"history": {}},
    ]
    for command in others:
        assert 108 == (await send_command(socket, {"id": 2, **command}))["error"]["code"]


@pytest.mark.parametrize("token", ["x", "e30.e30.e30", "A" * 4000])
async def test_an_invalid_token_closes_the_connection_for_good(harness: RealtimeHarness, token: str) -> None:
    """3500: the client does not come back."""
    socket = await harness.open_socket()
    await socket.send_json({"id": 1, "connect": {"token": token}})
    assert 3500 == await wait_closed(socket)


async def test_a_token_expires_after_an_hour(harness: RealtimeHarness) -> None:
    """On an open connection and for a new one."""
    token = await harness.issue_token(JAVASCRIPT_CHANNEL)
    harness.clock.advance(3600)
    socket = await harness.open_socket()
    await socket.send_json({"id": 1, "connect": {"token": token}})
    assert 3500 == await wait_closed(socket)


async def test_a_connection_is_closed_when_its_token_expires(harness: RealtimeHarness) -> None:
    socket = await harness.connect(await harness.issue_token(JAVASCRIPT_CHANNEL))
    harness.clock.step_wall(3600)
    await harness.clock.run_for(11)
    assert 3503 == await wait_closed(socket)


async def test_a_token_of_a_removed_client_is_refused(harness: RealtimeHarness) -> None:
    """The removal of a client invalidates its tokens."""
    token = await harness.issue_token(JAVASCRIPT_CHANNEL)
    harness.known_clients.discard("one")
    socket = await harness.open_socket()
    await socket.send_json({"id": 1, "connect": {"token": token}})
    assert 3500 == await wait_closed(socket)


async def test_an_unauthenticated_connection_is_closed(harness: RealtimeHarness) -> None:
    socket = await harness.open_socket()
    await harness.clock.run_for(11)
    assert 3502 == await wait_closed(socket)


async def test_a_missed_pong_closes_the_connection(harness: RealtimeHarness) -> None:
    """An unanswered ping closes it after ten seconds; the client may reconnect."""
    socket = await harness.subscribe(JAVASCRIPT_CHANNEL)
    await harness.clock.run_for(10)
    assert "{}" == await socket.receive_str(timeout=10)
    await harness.clock.run_for(10)
    assert 3012 == await wait_closed(socket)


async def test_a_connection_that_answers_pings_stays_open(harness: RealtimeHarness) -> None:
    """A ping comes every 25 seconds, the first one after ten."""
    socket = await harness.subscribe(JAVASCRIPT_CHANNEL)
    realtime_connection = next(iter(harness.realtime.connections))
    await harness.clock.run_for(10)
    for _ in range(5):
        assert "{}" == await socket.receive_str(timeout=10)
        await socket.send_str("{}")
        await wait_until(lambda: realtime_connection._pong_received)
        await harness.clock.run_for(25)
    await harness.store_run(7)
    await harness.finish_run(7, {"answer": 42})
    await socket.receive_str(timeout=10)
    assert (JAVASCRIPT_CHANNEL, COMPLETED) == await receive_message(socket)


@pytest.mark.parametrize(
    "frame", ["nonsense", "[]", '{"id":1,"subscribe":{"channel":"c"}}', '{"id":1,"connect":{}}', "{}\n" * 40]
)
async def test_an_invalid_frame_closes_the_connection(harness: RealtimeHarness, frame: str) -> None:
    """Without reconnection: the client would repeat the frame."""
    socket = await harness.open_socket()
    await socket.send_str(frame)
    assert 3501 == await wait_closed(socket)


async def test_a_binary_frame_closes_the_connection(harness: RealtimeHarness) -> None:
    """Binary frames use Centrifugo's Protobuf encoding, which is not supported."""
    socket = await harness.open_socket()
    await socket.send_bytes(b"\x01\x02")
    assert 3501 == await wait_closed(socket)


async def test_a_large_frame_closes_the_connection(harness: RealtimeHarness) -> None:
    socket = await harness.open_socket()
    await socket.send_str('{"id":1,"connect":{"token":"%s"}}' % ("x" * 20_000))
    assert 1009 == await wait_closed(socket)


async def test_too_many_frames_close_the_connection(harness: RealtimeHarness) -> None:
    socket = await harness.subscribe(JAVASCRIPT_CHANNEL)
    for _ in range(70):
        await socket.send_str("{}")
    assert 3501 == await wait_closed(socket)


async def test_pings_of_the_websocket_itself_are_answered(harness: RealtimeHarness) -> None:
    """The Python library sends one every 20 seconds and disconnects without a pong."""
    socket = await harness.session.ws_connect(harness.url + "/connection/websocket", autoping=False)
    await socket.ping(b"here")
    message = await socket.receive(timeout=10)
    assert (aiohttp.WSMsgType.PONG, b"here") == (message.type, message.data)


@pytest.mark.parametrize("prefix", ["", "/pl", "/a/b", "/"])
async def test_it_is_there_under_any_prefix(harness: RealtimeHarness, prefix: str) -> None:
    """The Python SDK drops the path of the base URL, the JavaScript SDK keeps it."""
    socket = await harness.open_socket(prefix + "/connection/websocket")
    await socket.send_json({"id": 1, "connect": {"token": "x"}})
    assert 3500 == await wait_closed(socket)


@pytest.mark.parametrize("fields", [{}, {"Upgrade": "websocket", "Connection": "Upgrade"}])
async def test_a_request_that_is_no_websocket_is_refused(harness: RealtimeHarness, fields: dict[str, str]) -> None:
    async with harness.session.get(harness.url + "/connection/websocket", headers=fields) as answer:
        assert (400, "malformed_request") == (answer.status, (await answer.json())["code"])


@pytest.mark.parametrize(("protocol", "status"), [("", 101), (" ", 101), ("centrifuge-protobuf", 400)])
async def test_subprotocols(harness: RealtimeHarness, protocol: str, status: int) -> None:
    """The Python SDK sends the field empty. Its value is not logged."""
    fields = {
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Protocol": protocol,
    }
    async with harness.session.get(harness.url + "/connection/websocket", headers=fields) as answer:
        assert status == answer.status
        assert "Sec-WebSocket-Protocol" not in answer.headers


@pytest.mark.parametrize(
    "channel",
    ["", "x", "workflow_updates:", "workflow_updates:-1", "workflow_updates:0", "workflows:3:run:", "w" * 2000],
)
async def test_a_token_is_refused_for_an_invalid_channel(harness: RealtimeHarness, channel: str) -> None:
    url, headers = f"{harness.url}/ws-token-request-library", {"X-API-KEY": KEYS["one"]}
    async with harness.session.post(url, params={"capability": channel}, headers=headers) as answer:
        assert (422, "invalid_request") == (answer.status, (await answer.json())["code"])


async def test_a_token_requires_a_key(harness: RealtimeHarness) -> None:
    url = f"{harness.url}/ws-token-request-library"
    async with harness.session.post(url, params={"capability": JAVASCRIPT_CHANNEL}) as answer:
        assert 401 == answer.status


async def test_one_client_gets_at_most_half_of_the_connections() -> None:
    """Further connections of the client are closed for reconnection; other clients are accepted."""
    async with realtime_server(max_connections=4) as harness:
        token = await harness.issue_token(JAVASCRIPT_CHANNEL)
        first, second = await harness.connect(token), await harness.connect(token)
        third = await harness.open_socket()
        await third.send_json({"id": 1, "connect": {"token": token}})
        assert 4008 == await wait_closed(third)
        other = await harness.connect(await harness.issue_token(JAVASCRIPT_CHANNEL, "two"))
        await first.close()
        await wait_until(lambda: len(harness.realtime.connections) == 2)
        again = await harness.connect(token)
        assert [False] * 3 == [socket.closed for socket in (second, other, again)]


async def test_connections_over_the_limit_are_refused() -> None:
    """Before the handshake, until a connection is closed."""
    async with realtime_server(max_connections=2) as harness:
        sockets = [await harness.connect(await harness.issue_token(JAVASCRIPT_CHANNEL, client)) for client in KEYS]
        with pytest.raises(aiohttp.WSServerHandshakeError, match="503"):
            await harness.open_socket()
        await sockets[0].close()
        await wait_until(lambda: len(harness.realtime.connections) == 1)
        assert not (await harness.open_socket()).closed


async def test_shutdown_closes_every_connection_for_reconnection(harness: RealtimeHarness) -> None:
    """3001: clients reconnect, to another replica."""
    sockets = [await harness.subscribe(JAVASCRIPT_CHANNEL), await harness.open_socket()]
    closing = asyncio.create_task(harness.realtime.close_all())
    assert [3001, 3001] == [await wait_closed(socket) for socket in sockets]
    await closing
    await wait_until(lambda: not harness.realtime.connections)


async def test_a_store_outage_is_retried(harness: RealtimeHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    """No message is sent to the client."""
    await harness.store_run(7)
    await harness.finish_run(7, {"answer": 42})

    async def away(_run_id: str) -> None:
        raise StoreUnavailable

    with monkeypatch.context() as patch:
        patch.setattr(harness.store, "get_overview", away)
        socket = await harness.subscribe(JAVASCRIPT_CHANNEL)
        await wait_until(lambda: 1.0 in harness.clock.slept)
    await harness.clock.run_for(1)
    assert (JAVASCRIPT_CHANNEL, COMPLETED) == await receive_message(socket)


async def test_a_run_with_an_unreadable_spec_is_delivered(harness: RealtimeHarness) -> None:
    """Otherwise its client would reconnect forever."""
    await harness.store_run(7)
    run_id = harness.execution_ids.run_id("one", 7)
    harness.store._runs[run_id] = replace(harness.store._runs[run_id], order=b'{"odd":1}')
    await harness.finish_run(7, {"answer": 42})
    assert (JAVASCRIPT_CHANNEL, COMPLETED) == await receive_message(await harness.subscribe(JAVASCRIPT_CHANNEL))


async def test_an_internal_error_closes_the_connection(harness: RealtimeHarness) -> None:
    """The log has the error without its message; the client reconnects."""
    await harness.store_run(7)
    run_id = harness.execution_ids.run_id("one", 7)
    await harness.finish_run(7, "x")
    harness.store._runs[run_id] = replace(harness.store._runs[run_id], document=b"{}")
    socket = await harness.subscribe(JAVASCRIPT_CHANNEL)
    assert 3004 == await wait_closed(socket)
    assert ["internal_error"] == [
        realtime_connection["event"]
        for realtime_connection in harness.capture.entries
        if realtime_connection["log_level"] == "error"
    ]


async def test_the_access_log_entry_names_the_client(harness: RealtimeHarness) -> None:
    """But neither token nor channel."""
    token = await harness.issue_token(JAVASCRIPT_CHANNEL)
    await (await harness.connect(token)).close()
    await wait_until(lambda: len(harness.capture.entries) >= 2)
    realtime_connection = harness.capture.entries[-1]
    assert ("promptlayer_socket", "one", 101) == (
        realtime_connection["route"],
        realtime_connection["client"],
        realtime_connection["status"],
    )
    assert token not in str(harness.capture.entries)
