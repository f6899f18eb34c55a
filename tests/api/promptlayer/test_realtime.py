"""Who waits for a run on the WebSocket is told how it ended, once there is something to tell; and nobody else is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import aiohttp
import pytest

from gateway.store.contract import StoreUnavailable
from tests.api.listening import until
from tests.api.promptlayer.waiting import KEYS, Waiting, ended, say, told, waiting

AFTER = "workflow_updates:7"
BEFORE = "workflows:3:run:a71d"
OK = {"workflow_version_execution_id": 7, "result_code": "OK", "final_output": {"answer": 42}}


@pytest.fixture
async def here() -> AsyncIterator[Waiting]:
    """A server, and nothing going on."""
    async with waiting() as running:
        yield running


async def test_whoever_subscribes_before_the_run_is_told(here: Waiting) -> None:
    """As Python's SDK does: the run's number follows from the channel's suffix before there is a run."""
    socket = await here.listen(BEFORE)
    number = here.numbers.of_channel("one", "a71d")
    await here.begin(number)
    await here.end(number, {"answer": 42})
    assert (BEFORE, {**OK, "workflow_version_execution_id": number}) == await told(socket)


async def test_whoever_subscribes_during_the_run_is_told(here: Waiting) -> None:
    """As JavaScript's SDK does."""
    await here.begin(7)
    socket = await here.listen(AFTER)
    await here.end(7, {"answer": 42})
    assert (AFTER, OK) == await told(socket)


async def test_whoever_subscribes_after_the_run_is_told(here: Waiting) -> None:
    """However fast it was."""
    await here.begin(7)
    await here.end(7, {"answer": 42})
    assert (AFTER, OK) == await told(await here.listen(AFTER))


async def test_whoever_comes_back_is_told_again(here: Waiting) -> None:
    """With the same ticket: nobody knows whether the first one arrived."""
    await here.begin(7)
    ticket = await here.ticket(AFTER)
    first = await here.connect(ticket)
    await say(first, {"id": 2, "subscribe": {"channel": AFTER}})
    first._response.connection.transport.abort()  # type: ignore[union-attr]  # as a cable that is cut
    await here.end(7, {"answer": 42})
    for _ in range(2):
        again = await here.connect(ticket)
        await say(again, {"id": 2, "subscribe": {"channel": AFTER}})
        assert (AFTER, OK) == await told(again)


async def test_the_result_has_the_form_that_was_asked_for(here: Waiting) -> None:
    """Every node, where the start said `return_all_outputs`."""
    await here.begin(7, all_outputs=True)
    await here.end(7, "text")
    _, message = await told(await here.listen(AFTER))
    assert {"Output"} == set(message["final_output"])
    assert ("SUCCESS", "text") == (
        message["final_output"]["Output"]["status"],
        message["final_output"]["Output"]["value"],
    )


async def test_of_a_large_result_is_said_that_there_is_one(here: Waiting) -> None:
    """The SDKs then get it by themselves."""
    await here.begin(7)
    await here.end(7, "x" * 300_000)
    expected = {"workflow_version_execution_id": 7, "result_code": "EXCEEDS_SIZE_LIMIT"}
    assert (AFTER, expected) == await told(await here.listen(AFTER))


async def test_another_clients_run_is_not_told(here: Waiting) -> None:
    """The same number is another run to each client: one that does not exist."""
    await here.begin(7, client="one")
    foreign, own = await here.listen(AFTER, "two"), await here.listen(AFTER, "one")
    await here.end(7, {"answer": 42}, client="one")
    await told(own)
    with pytest.raises(TimeoutError):
        await foreign.receive(timeout=0.2)


async def test_a_ticket_is_for_its_channel_only(here: Waiting) -> None:
    await here.begin(8)
    await here.end(8, "secret")
    socket = await here.connect(await here.ticket(AFTER))
    refused = await say(socket, {"id": 2, "subscribe": {"channel": "workflow_updates:8"}})
    assert {"id": 2, "error": {"code": 103, "message": "permission denied"}} == refused


async def test_one_subscription_is_enough(here: Waiting) -> None:
    """A second one is refused, and after the first was given up there may be another."""
    socket = await here.listen(AFTER)
    assert 105 == (await say(socket, {"id": 3, "subscribe": {"channel": AFTER}}))["error"]["code"]
    assert {"id": 4, "unsubscribe": {}} == await say(socket, {"id": 4, "unsubscribe": {"channel": AFTER}})
    assert {"id": 5, "subscribe": {}} == await say(socket, {"id": 5, "subscribe": {"channel": AFTER}})
    await here.begin(7)
    await here.end(7, {"answer": 42})
    assert (AFTER, OK) == await told(socket)


async def test_nothing_is_told_after_unsubscribing(here: Waiting) -> None:
    socket = await here.listen(AFTER)
    await say(socket, {"id": 3, "unsubscribe": {"channel": AFTER}})
    await here.begin(7)
    await here.end(7, {"answer": 42})
    with pytest.raises(TimeoutError):
        await socket.receive(timeout=0.1)


async def test_other_commands_are_not_available(here: Waiting) -> None:
    """Nobody but the gateway publishes."""
    socket = await here.connect(await here.ticket(AFTER))
    others: list[dict[str, object]] = [{"publish": {"channel": AFTER, "data": {}}}, {"rpc": {}}, {"history": {}}]
    for command in others:
        assert 108 == (await say(socket, {"id": 2, **command}))["error"]["code"]


@pytest.mark.parametrize("token", ["x", "e30.e30.e30", "A" * 4000])
async def test_a_wrong_ticket_ends_it_for_good(here: Waiting, token: str) -> None:
    """3500: the client does not come back."""
    socket = await here.dial()
    await socket.send_json({"id": 1, "connect": {"token": token}})
    assert 3500 == await ended(socket)


async def test_a_ticket_ends_with_its_hour(here: Waiting) -> None:
    """On a connection that there is, and for a new one."""
    ticket = await here.ticket(AFTER)
    here.clock.advance(3600)
    socket = await here.dial()
    await socket.send_json({"id": 1, "connect": {"token": ticket}})
    assert 3500 == await ended(socket)


async def test_a_connection_ends_with_its_ticket(here: Waiting) -> None:
    socket = await here.connect(await here.ticket(AFTER))
    here.clock.step_wall(3600)
    await here.clock.run_for(11)
    assert 3503 == await ended(socket)


async def test_a_client_that_is_gone_gets_nothing(here: Waiting) -> None:
    """Its tickets go with it."""
    ticket = await here.ticket(AFTER)
    here.clients.discard("one")
    socket = await here.dial()
    await socket.send_json({"id": 1, "connect": {"token": ticket}})
    assert 3500 == await ended(socket)


async def test_whoever_does_not_say_who_it_is_has_to_go(here: Waiting) -> None:
    socket = await here.dial()
    await here.clock.run_for(11)
    assert 3502 == await ended(socket)


async def test_whoever_is_silent_has_to_go(here: Waiting) -> None:
    """A ping that is not answered within ten seconds ends it; the client may come back."""
    socket = await here.listen(AFTER)
    await here.clock.run_for(10)
    assert "{}" == await socket.receive_str(timeout=10)
    await here.clock.run_for(10)
    assert 3012 == await ended(socket)


async def test_whoever_answers_stays(here: Waiting) -> None:
    """A ping comes every 25 seconds, the first one after ten."""
    socket = await here.listen(AFTER)
    line = next(iter(here.realtime.lines))
    await here.clock.run_for(10)
    for _ in range(5):
        assert "{}" == await socket.receive_str(timeout=10)
        await socket.send_str("{}")
        await until(lambda: line._answered)
        await here.clock.run_for(25)
    await here.begin(7)
    await here.end(7, {"answer": 42})
    await socket.receive_str(timeout=10)
    assert (AFTER, OK) == await told(socket)


@pytest.mark.parametrize(
    "frame", ["nonsense", "[]", '{"id":1,"subscribe":{"channel":"c"}}', '{"id":1,"connect":{}}', "{}\n" * 40]
)
async def test_what_is_not_of_the_protocol_ends_it(here: Waiting, frame: str) -> None:
    """For good: the client would say the same again."""
    socket = await here.dial()
    await socket.send_str(frame)
    assert 3501 == await ended(socket)


async def test_bytes_end_it(here: Waiting) -> None:
    """That is Centrifugo's other encoding."""
    socket = await here.dial()
    await socket.send_bytes(b"\x01\x02")
    assert 3501 == await ended(socket)


async def test_a_large_frame_ends_it(here: Waiting) -> None:
    socket = await here.dial()
    await socket.send_str('{"id":1,"connect":{"token":"%s"}}' % ("x" * 20_000))
    assert 1009 == await ended(socket)


async def test_saying_too_much_ends_it(here: Waiting) -> None:
    socket = await here.listen(AFTER)
    for _ in range(70):
        await socket.send_str("{}")
    assert 3501 == await ended(socket)


async def test_pings_of_the_websocket_itself_are_answered(here: Waiting) -> None:
    """Python's library sends them every 20 seconds, and leaves where nothing comes back."""
    socket = await here.session.ws_connect(here.url + "/connection/websocket", autoping=False)
    await socket.ping(b"here")
    heard = await socket.receive(timeout=10)
    assert (aiohttp.WSMsgType.PONG, b"here") == (heard.type, heard.data)


@pytest.mark.parametrize("prefix", ["", "/pl", "/a/b", "/"])
async def test_it_is_there_under_any_prefix(here: Waiting, prefix: str) -> None:
    """Python's SDK drops the base URL's path, JavaScript's keeps it."""
    socket = await here.dial(prefix + "/connection/websocket")
    await socket.send_json({"id": 1, "connect": {"token": "x"}})
    assert 3500 == await ended(socket)


@pytest.mark.parametrize("fields", [{}, {"Upgrade": "websocket", "Connection": "Upgrade"}])
async def test_a_request_that_is_no_websocket_is_refused(here: Waiting, fields: dict[str, str]) -> None:
    async with here.session.get(here.url + "/connection/websocket", headers=fields) as answer:
        assert (400, "malformed_request") == (answer.status, (await answer.json())["code"])


@pytest.mark.parametrize(("protocol", "status"), [("", 101), (" ", 101), ("centrifuge-protobuf", 400)])
async def test_subprotocols(here: Waiting, protocol: str, status: int) -> None:
    """Python's SDK sends the field empty. Nothing of it gets into the log."""
    fields = {
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Protocol": protocol,
    }
    async with here.session.get(here.url + "/connection/websocket", headers=fields) as answer:
        assert status == answer.status
        assert "Sec-WebSocket-Protocol" not in answer.headers


@pytest.mark.parametrize(
    "channel",
    ["", "x", "workflow_updates:", "workflow_updates:-1", "workflow_updates:0", "workflows:3:run:", "w" * 2000],
)
async def test_there_is_no_ticket_for_what_is_no_runs_channel(here: Waiting, channel: str) -> None:
    url, headers = f"{here.url}/ws-token-request-library", {"X-API-KEY": KEYS["one"]}
    async with here.session.post(url, params={"capability": channel}, headers=headers) as answer:
        assert (422, "invalid_request") == (answer.status, (await answer.json())["code"])


async def test_a_ticket_needs_a_key(here: Waiting) -> None:
    url = f"{here.url}/ws-token-request-library"
    async with here.session.post(url, params={"capability": AFTER}) as answer:
        assert 401 == answer.status


async def test_one_client_does_not_take_every_seat() -> None:
    """Beyond half of them it is sent away, and may come back; others are let in."""
    async with waiting(most=4) as here:
        ticket = await here.ticket(AFTER)
        first, second = await here.connect(ticket), await here.connect(ticket)
        third = await here.dial()
        await third.send_json({"id": 1, "connect": {"token": ticket}})
        assert 4008 == await ended(third)
        other = await here.connect(await here.ticket(AFTER, "two"))
        await first.close()
        await until(lambda: len(here.realtime.lines) == 2)
        again = await here.connect(ticket)
        assert [False] * 3 == [socket.closed for socket in (second, other, again)]


async def test_the_surplus_of_connections_is_refused() -> None:
    """Before anything is spent on it; who leaves makes room."""
    async with waiting(most=2) as here:
        sockets = [await here.connect(await here.ticket(AFTER, client)) for client in KEYS]
        with pytest.raises(aiohttp.WSServerHandshakeError, match="503"):
            await here.dial()
        await sockets[0].close()
        await until(lambda: len(here.realtime.lines) == 1)
        assert not (await here.dial()).closed


async def test_leaving_sends_everybody_elsewhere(here: Waiting) -> None:
    """3001: they come back, to whoever takes connections by then."""
    sockets = [await here.listen(AFTER), await here.dial()]
    closing = asyncio.create_task(here.realtime.leave())
    assert [3001, 3001] == [await ended(socket) for socket in sockets]
    await closing
    await until(lambda: not here.realtime.lines)


async def test_a_store_that_is_away_for_a_while_is_asked_again(here: Waiting, monkeypatch: pytest.MonkeyPatch) -> None:
    """The client hears nothing of it."""
    await here.begin(7)
    await here.end(7, {"answer": 42})

    async def away(_run_id: str) -> None:
        raise StoreUnavailable

    with monkeypatch.context() as patch:
        patch.setattr(here.store, "run", away)
        socket = await here.listen(AFTER)
        await until(lambda: 1.0 in here.clock.slept)
    await here.clock.run_for(1)
    assert (AFTER, OK) == await told(socket)


async def test_a_run_whose_order_another_version_wrote_is_told(here: Waiting) -> None:
    """It ended, and its client would come back for ever."""
    await here.begin(7)
    run_id = here.numbers.run_id("one", 7)
    here.store._runs[run_id] = replace(here.store._runs[run_id], order=b'{"odd":1}')
    await here.end(7, {"answer": 42})
    assert (AFTER, OK) == await told(await here.listen(AFTER))


async def test_a_mistake_of_ours_does_not_leave_the_client_waiting(here: Waiting) -> None:
    """It is logged without its words, and the client comes back."""
    await here.begin(7)
    run_id = here.numbers.run_id("one", 7)
    await here.end(7, "x")
    here.store._runs[run_id] = replace(here.store._runs[run_id], document=b"{}")
    socket = await here.listen(AFTER)
    assert 3004 == await ended(socket)
    assert ["mistake"] == [line["event"] for line in here.capture.entries if line["log_level"] == "error"]


async def test_its_line_in_the_log_names_the_client(here: Waiting) -> None:
    """Neither ticket nor channel."""
    ticket = await here.ticket(AFTER)
    await (await here.connect(ticket)).close()
    await until(lambda: len(here.capture.entries) >= 2)
    line = here.capture.entries[-1]
    assert ("promptlayer_socket", "one", 101) == (line["route"], line["client"], line["status"])
    assert ticket not in str(here.capture.entries)
