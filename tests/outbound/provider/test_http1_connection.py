"""HTTP exchange on a connection: a complete response or a fault, with bounded memory."""

from __future__ import annotations

import asyncio
import json
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest
import uvloop
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.outbound.provider.http1_connection import HttpResponse, ProviderConnection
from providers.contract import Cause, ProviderFault
from tests.support.examples import examples
from tests.support.fake_upstream.responses import chunked, reply

MAX_BODY = 1000
RESPONSE = reply(200, {"result": "because"}, [("X-Own", "Yes")])


class FakeTransport(asyncio.Transport):
    """Fake transport that stores written bytes and reports its end to the protocol."""

    def __init__(self, protocol: ProviderConnection) -> None:
        super().__init__()
        self.written = b""
        self.closing = ""
        self._protocol = protocol

    def get_extra_info(self, _name: str, default: Any = None) -> Any:
        """Return None."""
        return default

    def is_closing(self) -> bool:
        """Return True after `close` or `abort`."""
        return self.closing != ""

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        """Store the bytes."""
        self.written += bytes(data)

    def close(self) -> None:
        """Close gracefully."""
        self._end("closed")

    def abort(self) -> None:
        """Close at once."""
        self._end("aborted")

    def lose(self, error: Exception | None) -> None:
        """Report the loss of the connection once."""
        if not self.closing:
            self.closing = "lost"
            self._protocol.connection_lost(error)

    def _end(self, how: str) -> None:
        if not self.closing:
            self.closing = how
            asyncio.get_running_loop().call_soon(self._protocol.connection_lost, None)


async def let_requests_be_written() -> None:
    """Let tasks that were created send their requests, and the write batch write them."""
    await asyncio.sleep(0)
    await asyncio.sleep(0)


class ConnectionHarness:
    """A new connection; `lost` counts the calls of `on_lost`."""

    def __init__(self) -> None:
        self.lost: list[ProviderConnection] = []
        self.connection = ProviderConnection(MAX_BODY, self.lost.append)
        self.transport = FakeTransport(self.connection)
        self.connection.connection_made(self.transport)

    async def exchange(
        self, *events: bytes | Callable[[ConnectionHarness], None], seconds: float = 60
    ) -> HttpResponse | ProviderFault:
        """Send a request; then apply the events in order."""
        task = asyncio.create_task(self._exchange(seconds))
        await let_requests_be_written()
        for event in events:
            if not isinstance(event, bytes):
                event(self)
            elif not self.transport.is_closing():
                self.connection.data_received(event)
            await asyncio.sleep(0)
        return await task

    async def _exchange(self, seconds: float) -> HttpResponse | ProviderFault:
        try:
            return await self.connection.exchange(b"request", seconds)
        except ProviderFault as fault:
            return fault


def close_by_peer(harness: ConnectionHarness) -> None:
    """Close by the peer."""
    harness.transport.lose(None)


def reset_by_peer(harness: ConnectionHarness) -> None:
    """Reset by the peer."""
    harness.transport.lose(ConnectionResetError(104, "CANARY"))


def cause_of(result: HttpResponse | ProviderFault) -> Cause:
    """Return the cause of the fault."""
    assert isinstance(result, ProviderFault), result
    return result.cause


def status_and_body(result: HttpResponse | ProviderFault) -> tuple[int, bytes]:
    """Return status and body of the response."""
    assert isinstance(result, HttpResponse), result.detail
    return result.status, result.body


def receive_response(harness: ConnectionHarness) -> None:
    """Receive a response that no request has asked for."""
    harness.connection.data_received(RESPONSE.encode())


@pytest.mark.parametrize("event", [close_by_peer, reset_by_peer, receive_response])
async def test_a_connection_that_ends_before_its_request_is_written_has_sent_nothing(
    event: Callable[[ConnectionHarness], None],
) -> None:
    """The run may be started again: the request waited to be written with others."""
    harness = ConnectionHarness()
    response = harness.connection.exchange(b"request", 60)
    event(harness)
    with pytest.raises(ProviderFault) as raised:
        await response
    await asyncio.sleep(0)
    assert (Cause.UNREACHABLE, b"") == (raised.value.cause, harness.transport.written)


async def test_a_request_goes_out_and_its_answer_comes_in() -> None:
    """Header names are lower case, values unchanged; the connection may be reused."""
    harness = ConnectionHarness()
    result = await harness.exchange(RESPONSE.encode())
    assert b"request" == harness.transport.written
    assert (200, RESPONSE.body) == status_and_body(result)
    assert isinstance(result, HttpResponse)
    assert (b"x-own", b"Yes") in result.headers
    assert harness.connection.reusable
    assert not harness.transport.is_closing()


async def test_exchanges_follow_each_other_and_share_nothing() -> None:
    """Headers and body of a response do not appear in the next one."""
    harness = ConnectionHarness()
    await harness.exchange(RESPONSE.encode())
    result = await harness.exchange(reply(404, {}).encode())
    assert (404, b"{}") == status_and_body(result)
    assert isinstance(result, HttpResponse)
    assert b"x-own" not in dict(result.headers)


@pytest.mark.parametrize(
    "answer", [RESPONSE, chunked(RESPONSE), chunked(RESPONSE, 1)], ids=["length", "chunks", "chunks of 1"]
)
@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
async def test_how_the_bytes_are_cut_makes_no_difference(answer: Any, size: int) -> None:
    data = answer.encode()
    result = await ConnectionHarness().exchange(*(data[at : at + size] for at in range(0, len(data), size)))
    assert (200, RESPONSE.body) == status_and_body(result)


@pytest.mark.parametrize(
    ("data", "event", "expected"),
    [
        (b"", close_by_peer, Cause.DISCONNECTED),
        (b"", reset_by_peer, Cause.DISCONNECTED),
        (b"HTTP/1.1 200 OK\r\nContent-", close_by_peer, Cause.DISCONNECTED),
        (RESPONSE.head(), close_by_peer, Cause.INVALID_REPLY),
        (RESPONSE.encode()[:-1], close_by_peer, Cause.INVALID_REPLY),
        (RESPONSE.encode()[:-1], reset_by_peer, Cause.INVALID_REPLY),
        (chunked(RESPONSE).encode()[:-5], close_by_peer, Cause.INVALID_REPLY),
        (chunked(RESPONSE).encode()[:-1], close_by_peer, Cause.INVALID_REPLY),
        (b"HTTP/1.1 200 OK\r\n\r\nhalf", reset_by_peer, Cause.INVALID_REPLY),
        (b"HTTP/1.1 100 Continue\r\n\r\n", close_by_peer, Cause.DISCONNECTED),
    ],
)
async def test_where_the_connection_ends_decides_what_is_known(
    data: bytes, event: Callable[[ConnectionHarness], None], expected: Cause
) -> None:
    """R03 to R06: before the end of the head a disconnection; after it, an incomplete response."""
    harness = ConnectionHarness()
    result = await harness.exchange(data, event)
    assert expected is cause_of(result)
    assert not harness.connection.reusable
    assert "CANARY" not in str(result)


async def test_an_answer_without_a_length_ends_with_the_connection() -> None:
    """RFC 9112, 6.3: as in HTTP/1.0."""
    harness = ConnectionHarness()
    result = await harness.exchange(b"HTTP/1.0 200 OK\r\n\r\nsome", b"thing", close_by_peer)
    assert (200, b"something") == status_and_body(result)
    assert not harness.connection.reusable


@pytest.mark.parametrize("version", [b"HTTP/1.1", b"HTTP/1.0"])
async def test_a_connection_that_is_to_be_closed_is_not_used_again(version: bytes) -> None:
    harness = ConnectionHarness()
    result = await harness.exchange(version + b" 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi")
    assert (200, b"hi") == status_and_body(result)
    assert "closed" == harness.transport.closing
    assert not harness.connection.reusable


@pytest.mark.parametrize(
    "data",
    [
        b"garbage\r\n\r\n",
        b"HTTP/2.0 200 OK\r\nContent-Length: 2\r\n\r\nhi",
        b"HTTP/1.1 000 OK\r\nContent-Length: 2\r\n\r\nhi",
        b"HTTP/1.1 050 OK\r\nContent-Length: 2\r\n\r\nhi",
        b"HTTP/1.1 1000 OK\r\nContent-Length: 2\r\n\r\nhi",
        b"HTTP/1.1 200 OK\nContent-Length: 2\n\nhi",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nhi",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nhi",
        b"HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nhi",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1_0\r\n\r\nhi",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\nhi",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA: b\r\n c\r\nContent-Length: 2\r\n\r\nhi",
        b"HTTP/1.1 200 OK\r\nContent-Length : 2\r\n\r\nhi",
        b"HTTP/1.1 200 OK\r\nA: \x00\r\nContent-Length: 2\r\n\r\nhi",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nhi",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\nhi",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nhi",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\nhi",
    ],
)
async def test_bytes_that_are_not_http_are_no_response(data: bytes) -> None:
    """R19: an ambiguous response is rejected, and the connection is closed."""
    harness = ConnectionHarness()
    assert Cause.INVALID_REPLY is cause_of(await harness.exchange(data))
    assert "aborted" == harness.transport.closing


@pytest.mark.parametrize("coding", [b"gzip", b"xchunked", b"chunked\r\nTransfer-Encoding: identity"])
async def test_an_unknown_transfer_coding_is_never_whole(coding: bytes) -> None:
    """R19: its end cannot be determined."""
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: " + coding + b"\r\n\r\n"
    assert Cause.INVALID_REPLY is cause_of(
        await ConnectionHarness().exchange(head, b"2\r\nhi\r\n0\r\n\r\n", close_by_peer)
    )


async def test_some_interim_answers_are_passed_over() -> None:
    """RFC 9110, 15.2: their header fields are not those of the response."""
    harness = ConnectionHarness()
    result = await harness.exchange(
        b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Early Hints\r\nX-Early: 1\r\n\r\n", RESPONSE.encode()
    )
    assert (200, RESPONSE.body) == status_and_body(result)
    assert isinstance(result, HttpResponse)
    assert b"x-early" not in dict(result.headers)


async def test_many_interim_answers_are_too_many() -> None:
    """R19: their number is bounded."""
    harness = ConnectionHarness()
    assert Cause.INVALID_REPLY is cause_of(
        await harness.exchange(b"HTTP/1.1 100 Continue\r\n\r\n" * 9, RESPONSE.encode())
    )


@pytest.mark.parametrize(
    "events",
    [
        (RESPONSE.encode() + RESPONSE.encode(),),
        (RESPONSE.encode() + b"H",),
        (RESPONSE.encode() + b"garbage",),
    ],
    ids=["whole", "begun", "garbage"],
)
async def test_two_answers_are_none(events: tuple[bytes, ...]) -> None:
    """R19: the response of the request cannot be determined."""
    harness = ConnectionHarness()
    assert Cause.INVALID_REPLY is cause_of(await harness.exchange(*events))
    assert "aborted" == harness.transport.closing


async def test_an_answer_behind_the_answer_ends_the_connection() -> None:
    """R19: it arrived outside of an exchange; the first one is valid."""
    harness = ConnectionHarness()
    assert (200, RESPONSE.body) == status_and_body(await harness.exchange(RESPONSE.encode()))
    harness.connection.data_received(RESPONSE.encode())
    assert "aborted" == harness.transport.closing
    assert not harness.connection.reusable


async def test_bytes_between_the_response_and_its_reader_end_the_connection() -> None:
    """R19: the response is complete, but its task has not been resumed yet."""
    harness = ConnectionHarness()
    response = harness.connection.exchange(b"request", 60)
    await let_requests_be_written()
    harness.connection.data_received(RESPONSE.encode())
    harness.connection.data_received(RESPONSE.encode())
    assert (200, RESPONSE.body) == status_and_body(await response)
    assert not harness.connection.reusable


async def test_bytes_before_the_request_end_the_connection() -> None:
    harness = ConnectionHarness()
    harness.connection.data_received(RESPONSE.encode())
    assert Cause.UNREACHABLE is cause_of(await harness.exchange())
    assert b"" == harness.transport.written


@pytest.mark.parametrize("end", [close_by_peer, reset_by_peer])
async def test_a_connection_that_ended_while_idle_sent_nothing(end: Callable[[ConnectionHarness], None]) -> None:
    """R25: the fault states that nothing was sent."""
    harness = ConnectionHarness()
    end(harness)
    assert [harness.connection] == harness.lost
    assert Cause.UNREACHABLE is cause_of(await harness.exchange())
    assert b"" == harness.transport.written


@pytest.mark.parametrize("seconds", [0, -1])
async def test_nothing_is_sent_when_the_time_is_over(seconds: float) -> None:
    """A start that is sent without waiting could be a paid run without a result."""
    harness = ConnectionHarness()
    assert Cause.UNREACHABLE is cause_of(await harness.exchange(RESPONSE.encode(), seconds=seconds))
    assert b"" == harness.transport.written
    await asyncio.sleep(0)
    assert [harness.connection] == harness.lost


async def test_silence_ends_with_the_time() -> None:
    """R07: the request was sent, and its outcome is unknown."""
    harness = ConnectionHarness()
    assert Cause.TIMEOUT is cause_of(await harness.exchange(seconds=0.001))
    assert "aborted" == harness.transport.closing


def test_nothing_is_sent_if_the_time_ends_before_the_request_is_written() -> None:
    """Uvloop's timers have a resolution of a millisecond: a shorter one is over before the next writes."""

    async def exchange() -> tuple[Cause, bytes]:
        harness = ConnectionHarness()
        cause = cause_of(await harness.exchange(seconds=0.0001))
        await let_requests_be_written()
        return cause, harness.transport.written

    assert (Cause.UNREACHABLE, b"") == uvloop.run(exchange())


async def test_bytes_do_not_extend_the_time() -> None:
    """R08: a slow response times out as well."""
    harness = ConnectionHarness()
    harness.connection._max_body = 10**9  # or its size would end it
    task = asyncio.create_task(harness.exchange(b"HTTP/1.1 200 OK\r\n\r\n", seconds=0.01))
    await let_requests_be_written()
    for _ in range(3):
        await asyncio.sleep(0)
    while not harness.transport.is_closing():
        harness.connection.data_received(b"x")
        await asyncio.sleep(0)
    assert Cause.TIMEOUT is cause_of(await task)


async def test_the_response_of_a_cancelled_exchange_closes_the_connection() -> None:
    """It could otherwise be taken for the response of the next exchange."""
    harness = ConnectionHarness()
    response = harness.connection.exchange(b"request", 60)
    await let_requests_be_written()
    response.cancel()
    harness.connection.data_received(RESPONSE.encode())
    assert "aborted" == harness.transport.closing
    assert not harness.connection.reusable


@pytest.mark.parametrize(
    ("size", "expected"), [(MAX_BODY, None), (MAX_BODY + 1, Cause.TOO_LARGE), (10**12, Cause.TOO_LARGE)]
)
async def test_a_body_that_says_it_is_too_large_is_not_waited_for(size: int, expected: Cause | None) -> None:
    """R18: by its Content-Length."""
    harness = ConnectionHarness()
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size
    result = await harness.exchange(head, b"x" * min(size, MAX_BODY))
    if expected is None:
        assert (200, b"x" * MAX_BODY) == status_and_body(result)
    else:
        assert expected is cause_of(result)


@pytest.mark.parametrize("chunk", [1, 10, 1001])
async def test_a_body_that_does_not_say_so_is_counted(chunk: int) -> None:
    """R18: chunked, or delimited by the end of the connection."""
    one = b"%x\r\n%b\r\n" % (chunk, b"x" * chunk)
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert Cause.TOO_LARGE is cause_of(await ConnectionHarness().exchange(head, *[one] * (MAX_BODY // chunk + 1)))
    assert Cause.TOO_LARGE is cause_of(
        await ConnectionHarness().exchange(b"HTTP/1.1 200 OK\r\n\r\n", b"x" * (MAX_BODY + 1))
    )


async def test_a_body_of_small_chunks_may_be_as_large_as_any() -> None:
    """The framing of chunks does not count as head or body."""
    body = b"x" * 100_000
    harness = ConnectionHarness()
    harness.connection._max_body = len(body)  # a body whose frames are larger than a head may be
    data = b"".join(b"1\r\n%c\r\n" % byte for byte in body)
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert (200, body) == status_and_body(await harness.exchange(head + data + b"0\r\n\r\n"))


FLOODS = {
    "one long header": (b"HTTP/1.1 200 OK\r\nX-Long: ", b"a" * 1000),
    "many headers": (b"HTTP/1.1 200 OK\r\n", b"X-Many: 1\r\n" * 100),
    "a long reason": (b"HTTP/1.1 200 ", b"a" * 1000),
    "a long trailer": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX-Long: ", b"a" * 1000),
    "many trailers": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", b"X-Many: 1\r\n" * 100),
    "a long extension": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;", b"a" * 1000),
    "empty lines": (b"", b"\r\n" * 500),
}


@pytest.mark.parametrize("flood", FLOODS)
@pytest.mark.parametrize("size", [1, 200], ids=["in small pieces", "in large pieces"])
async def test_a_head_without_end_is_cut_off(flood: str, size: int) -> None:
    """R19: header and trailer have the same memory limit."""
    begin, more = FLOODS[flood]
    harness = ConnectionHarness()
    tracemalloc.start()
    try:
        result = await harness.exchange(begin, *[more * size] * (1000 // size))
        assert tracemalloc.get_traced_memory()[1] < 3_000_000
    finally:
        tracemalloc.stop()
    assert Cause.INVALID_REPLY is cause_of(result)


async def test_a_long_head_is_refused_even_if_it_comes_at_once() -> None:
    """R19: a head of 100 kB in one read, with a complete response."""
    data = RESPONSE.with_headers(("X-Long", "a" * 100_000)).encode()
    assert Cause.INVALID_REPLY is cause_of(await ConnectionHarness().exchange(data))


async def test_a_trailer_is_no_header() -> None:
    """RFC 9110, 6.5.1: trailer fields must not be merged into the header."""
    trailer = b"Retry-After: 5\r\nContent-Encoding: gzip\r\nX-Own: No\r\n\r\n"
    result = await ConnectionHarness().exchange(chunked(RESPONSE).encode()[:-2] + trailer)
    assert (200, RESPONSE.body) == status_and_body(result)
    assert isinstance(result, HttpResponse)
    assert [b"content-type", b"x-own", b"transfer-encoding"] == [name for name, _ in result.headers]


SLICES = st.lists(st.integers(1, 40), max_size=30)
DOCUMENT = json.dumps({"result": list(range(40))}).encode()


def split(data: bytes, sizes: list[int]) -> list[bytes]:
    """Return the data in pieces of these sizes, and the rest."""
    pieces, at = [], 0
    for size in sizes:
        pieces.append(data[at : at + size])
        at += size
    return [piece for piece in [*pieces, data[at:]] if piece]


@settings(max_examples=examples(200), deadline=None)
@given(
    prefix=st.sampled_from([b"HTTP/1.1 200 OK\r\n", b"HTTP/1.", b"", RESPONSE.head(), chunked(RESPONSE).encode()[:-5]]),
    noise=st.binary(max_size=200) | st.text("\r\n 0123456789abcdef:;,HTP/.", max_size=60).map(str.encode),
    sizes=SLICES,
)
def test_any_bytes_are_an_answer_or_a_fault(prefix: bytes, noise: bytes, sizes: list[int]) -> None:
    """For any bytes in any pieces the exchange ends, and a fault never quotes them."""

    async def scenario() -> None:
        world = ConnectionHarness()
        result = await world.exchange(*split(prefix + noise, sizes), close_by_peer)
        if isinstance(result, ProviderFault):
            assert result.cause in {Cause.DISCONNECTED, Cause.INVALID_REPLY, Cause.TOO_LARGE}
            assert result.detail.isascii()
        assert not world.connection.reusable

    asyncio.run(scenario())


@settings(max_examples=examples(100), deadline=None)
@given(sizes=SLICES, chunk=st.integers(1, 50), interim=st.integers(0, 8))
def test_a_whole_answer_is_understood_however_it_is_cut(sizes: list[int], chunk: int, interim: int) -> None:
    async def scenario() -> None:
        data = b"HTTP/1.1 102 Processing\r\n\r\n" * interim + chunked(reply(200, DOCUMENT), chunk).encode()
        assert (200, DOCUMENT) == status_and_body(await ConnectionHarness().exchange(*split(data, sizes)))

    asyncio.run(scenario())
