"""One exchange, byte by byte: an answer comes out whole, or a fault that says why not; nothing grows without bound."""

from __future__ import annotations

import asyncio
import json
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.upstream.connection import Answer, Connection
from providers.contract import Cause, ProviderFault
from tests.faults.answers import chunked, reply

MAX_BODY = 1000
OWN = reply(200, {"result": "because"}, [("X-Own", "Yes")])


class Transport(asyncio.Transport):
    """A transport to nowhere: it keeps what is written, and tells its protocol when it is closed."""

    def __init__(self, protocol: Connection) -> None:
        super().__init__()
        self.written = b""
        self.closing = ""
        self._protocol = protocol

    def get_extra_info(self, _name: str, default: Any = None) -> Any:
        """Nothing is known."""
        return default

    def is_closing(self) -> bool:
        """Whether either of the two below was called."""
        return self.closing != ""

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        """Keep it."""
        self.written += bytes(data)

    def close(self) -> None:
        """Close in the polite way."""
        self._end("closed")

    def abort(self) -> None:
        """Close at once."""
        self._end("aborted")

    def lose(self, error: Exception | None) -> None:
        """The peer closed it; a protocol hears of that once."""
        if not self.closing:
            self.closing = "lost"
            self._protocol.connection_lost(error)

    def _end(self, how: str) -> None:
        if not self.closing:
            self.closing = how
            asyncio.get_running_loop().call_soon(self._protocol.connection_lost, None)


class World:
    """A connection that was just made; `lost` counts how often it said goodbye."""

    def __init__(self) -> None:
        self.lost: list[Connection] = []
        self.connection = Connection(MAX_BODY, self.lost.append)
        self.transport = Transport(self.connection)
        self.connection.connection_made(self.transport)

    async def exchange(self, *events: bytes | Callable[[World], None], seconds: float = 60) -> Answer | ProviderFault:
        """Send a request; then the events happen, one after another."""
        task = asyncio.create_task(self._exchange(seconds))
        await asyncio.sleep(0)
        for event in events:
            if not isinstance(event, bytes):
                event(self)
            elif not self.transport.is_closing():
                self.connection.data_received(event)
            await asyncio.sleep(0)
        return await task

    async def _exchange(self, seconds: float) -> Answer | ProviderFault:
        try:
            return await self.connection.exchange(b"request", seconds)
        except ProviderFault as fault:
            return fault


def fin(world: World) -> None:
    """The peer closes."""
    world.transport.lose(None)


def rst(world: World) -> None:
    """The peer resets."""
    world.transport.lose(ConnectionResetError(104, "CANARY"))


def cause(result: Answer | ProviderFault) -> Cause:
    """What went wrong."""
    assert isinstance(result, ProviderFault), result
    return result.cause


def answered(result: Answer | ProviderFault) -> tuple[int, bytes]:
    """What came."""
    assert isinstance(result, Answer), result.detail
    return result.status, result.body


async def test_a_request_goes_out_and_its_answer_comes_in() -> None:
    """Header names are lower case, values as they were; the connection may be used again."""
    world = World()
    result = await world.exchange(OWN.encode())
    assert b"request" == world.transport.written
    assert (200, OWN.body) == answered(result)
    assert isinstance(result, Answer)
    assert (b"x-own", b"Yes") in result.headers
    assert world.connection.reusable
    assert not world.transport.is_closing()


async def test_exchanges_follow_each_other_and_share_nothing() -> None:
    """Neither headers nor body of an answer are found in the next one."""
    world = World()
    await world.exchange(OWN.encode())
    result = await world.exchange(reply(404, {}).encode())
    assert (404, b"{}") == answered(result)
    assert isinstance(result, Answer)
    assert b"x-own" not in dict(result.headers)


@pytest.mark.parametrize("answer", [OWN, chunked(OWN), chunked(OWN, 1)], ids=["length", "chunks", "chunks of 1"])
@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
async def test_how_the_bytes_are_cut_makes_no_difference(answer: Any, size: int) -> None:
    data = answer.encode()
    result = await World().exchange(*(data[at : at + size] for at in range(0, len(data), size)))
    assert (200, OWN.body) == answered(result)


@pytest.mark.parametrize(
    ("data", "event", "expected"),
    [
        (b"", fin, Cause.DISCONNECTED),
        (b"", rst, Cause.DISCONNECTED),
        (b"HTTP/1.1 200 OK\r\nContent-", fin, Cause.DISCONNECTED),
        (OWN.head(), fin, Cause.INVALID_REPLY),
        (OWN.encode()[:-1], fin, Cause.INVALID_REPLY),
        (OWN.encode()[:-1], rst, Cause.INVALID_REPLY),
        (chunked(OWN).encode()[:-5], fin, Cause.INVALID_REPLY),
        (chunked(OWN).encode()[:-1], fin, Cause.INVALID_REPLY),
        (b"HTTP/1.1 200 OK\r\n\r\nhalf", rst, Cause.INVALID_REPLY),
        (b"HTTP/1.1 100 Continue\r\n\r\n", fin, Cause.DISCONNECTED),
    ],
)
async def test_where_the_connection_ends_decides_what_is_known(
    data: bytes, event: Callable[[World], None], expected: Cause
) -> None:
    """R03 to R06: before the head ended nothing is known; after it, the answer is not whole."""
    world = World()
    result = await world.exchange(data, event)
    assert expected is cause(result)
    assert not world.connection.reusable
    assert "CANARY" not in str(result)


async def test_an_answer_without_a_length_ends_with_the_connection() -> None:
    """RFC 9112, 6.3: as HTTP/1.0 had it."""
    world = World()
    result = await world.exchange(b"HTTP/1.0 200 OK\r\n\r\nsome", b"thing", fin)
    assert (200, b"something") == answered(result)
    assert not world.connection.reusable


@pytest.mark.parametrize("version", [b"HTTP/1.1", b"HTTP/1.0"])
async def test_a_connection_that_is_to_be_closed_is_not_used_again(version: bytes) -> None:
    world = World()
    result = await world.exchange(version + b" 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi")
    assert (200, b"hi") == answered(result)
    assert "closed" == world.transport.closing
    assert not world.connection.reusable


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
async def test_what_is_not_http_is_no_answer(data: bytes) -> None:
    """R19: what may be read in two ways is not read at all, and the connection ends."""
    world = World()
    assert Cause.INVALID_REPLY is cause(await world.exchange(data))
    assert "aborted" == world.transport.closing


@pytest.mark.parametrize("coding", [b"gzip", b"xchunked", b"chunked\r\nTransfer-Encoding: identity"])
async def test_an_unknown_transfer_coding_is_never_whole(coding: bytes) -> None:
    """R19: where its end is can not be known."""
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: " + coding + b"\r\n\r\n"
    assert Cause.INVALID_REPLY is cause(await World().exchange(head, b"2\r\nhi\r\n0\r\n\r\n", fin))


async def test_some_interim_answers_are_passed_over() -> None:
    """RFC 9110, 15.2: a client must be able to; their headers are not the answer's."""
    world = World()
    result = await world.exchange(
        b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Early Hints\r\nX-Early: 1\r\n\r\n", OWN.encode()
    )
    assert (200, OWN.body) == answered(result)
    assert isinstance(result, Answer)
    assert b"x-early" not in dict(result.headers)


async def test_many_interim_answers_are_too_many() -> None:
    """R19: 20 000 of them would cost more than an answer is worth."""
    world = World()
    assert Cause.INVALID_REPLY is cause(await world.exchange(b"HTTP/1.1 100 Continue\r\n\r\n" * 9, OWN.encode()))


@pytest.mark.parametrize(
    "events",
    [
        (OWN.encode() + OWN.encode(),),
        (OWN.encode() + b"H",),
        (OWN.encode() + b"garbage",),
    ],
    ids=["whole", "begun", "garbage"],
)
async def test_two_answers_are_none(events: tuple[bytes, ...]) -> None:
    """R19: which of them is ours can not be known."""
    world = World()
    assert Cause.INVALID_REPLY is cause(await world.exchange(*events))
    assert "aborted" == world.transport.closing


async def test_an_answer_behind_the_answer_ends_the_connection() -> None:
    """R19: it came while nobody waited, so it is nobody's; the first one was good."""
    world = World()
    assert (200, OWN.body) == answered(await world.exchange(OWN.encode()))
    world.connection.data_received(OWN.encode())
    assert "aborted" == world.transport.closing
    assert not world.connection.reusable


async def test_what_comes_between_the_answer_and_its_reader_ends_the_connection() -> None:
    """R19: the answer is complete, but its run has not been woken yet."""
    world = World()
    task = asyncio.create_task(world.connection.exchange(b"request", 60))
    await asyncio.sleep(0)
    world.connection.data_received(OWN.encode())
    world.connection.data_received(OWN.encode())
    assert (200, OWN.body) == answered(await task)
    assert not world.connection.reusable


async def test_bytes_before_the_request_end_the_connection() -> None:
    world = World()
    world.connection.data_received(OWN.encode())
    assert Cause.UNREACHABLE is cause(await world.exchange())
    assert b"" == world.transport.written


@pytest.mark.parametrize("end", [fin, rst])
async def test_a_connection_that_ended_while_it_rested_sent_nothing(end: Callable[[World], None]) -> None:
    """R25: then it is known that nothing was started."""
    world = World()
    end(world)
    assert [world.connection] == world.lost
    assert Cause.UNREACHABLE is cause(await world.exchange())
    assert b"" == world.transport.written


@pytest.mark.parametrize("seconds", [0, -1])
async def test_nothing_is_sent_when_the_time_is_over(seconds: float) -> None:
    """A start that is sent and not waited for may cost a run that nobody sees."""
    world = World()
    assert Cause.UNREACHABLE is cause(await world.exchange(OWN.encode(), seconds=seconds))
    assert b"" == world.transport.written
    await asyncio.sleep(0)
    assert [world.connection] == world.lost


async def test_silence_ends_with_the_time() -> None:
    """R07: it was sent, and what became of it is not known."""
    world = World()
    assert Cause.TIMEOUT is cause(await world.exchange(seconds=0.001))
    assert "aborted" == world.transport.closing


async def test_bytes_do_not_extend_the_time() -> None:
    """R08: a dripping answer is as late as none."""
    world = World()
    world.connection._max_body = 10**9  # or its size would end it
    task = asyncio.create_task(world.exchange(b"HTTP/1.1 200 OK\r\n\r\n", seconds=0.01))
    for _ in range(3):
        await asyncio.sleep(0)
    while not world.transport.is_closing():
        world.connection.data_received(b"x")
        await asyncio.sleep(0)
    assert Cause.TIMEOUT is cause(await task)


async def test_whoever_is_cancelled_leaves_no_open_connection() -> None:
    world = World()
    task = asyncio.create_task(world.connection.exchange(b"request", 60))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert "aborted" == world.transport.closing
    assert not world.connection.reusable


@pytest.mark.parametrize(
    ("size", "expected"), [(MAX_BODY, None), (MAX_BODY + 1, Cause.TOO_LARGE), (10**12, Cause.TOO_LARGE)]
)
async def test_a_body_that_says_it_is_too_large_is_not_waited_for(size: int, expected: Cause | None) -> None:
    """R18: the head is enough to know."""
    world = World()
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size
    result = await world.exchange(head, b"x" * min(size, MAX_BODY))
    if expected is None:
        assert (200, b"x" * MAX_BODY) == answered(result)
    else:
        assert expected is cause(result)


@pytest.mark.parametrize("chunk", [1, 10, 1001])
async def test_a_body_that_does_not_say_so_is_counted(chunk: int) -> None:
    """R18: chunked, or until the connection's end."""
    one = b"%x\r\n%b\r\n" % (chunk, b"x" * chunk)
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert Cause.TOO_LARGE is cause(await World().exchange(head, *[one] * (MAX_BODY // chunk + 1)))
    assert Cause.TOO_LARGE is cause(await World().exchange(b"HTTP/1.1 200 OK\r\n\r\n", b"x" * (MAX_BODY + 1)))


async def test_a_body_of_small_chunks_may_be_as_large_as_any() -> None:
    """What frames the chunks is not held against the body."""
    body = b"x" * 100_000
    world = World()
    world.connection._max_body = len(body)  # a body whose frames are larger than a head may be
    data = b"".join(b"1\r\n%c\r\n" % byte for byte in body)
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert (200, body) == answered(await world.exchange(head + data + b"0\r\n\r\n"))


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
    """R19: whether it comes before the body or behind it, memory stays within what a head may have."""
    begin, more = FLOODS[flood]
    world = World()
    tracemalloc.start()
    try:
        result = await world.exchange(begin, *[more * size] * (1000 // size))
        assert tracemalloc.get_traced_memory()[1] < 3_000_000
    finally:
        tracemalloc.stop()
    assert Cause.INVALID_REPLY is cause(result)


async def test_a_long_head_is_refused_even_if_it_comes_at_once() -> None:
    """R19: a head of 100 kB whose answer is whole before it was counted."""
    data = OWN.adding(("X-Long", "a" * 100_000)).encode()
    assert Cause.INVALID_REPLY is cause(await World().exchange(data))


async def test_what_stands_behind_the_body_is_no_header() -> None:
    """RFC 9110, 6.5.1: a trailer must not be taken for what decides about the answer."""
    trailer = b"Retry-After: 5\r\nContent-Encoding: gzip\r\nX-Own: No\r\n\r\n"
    result = await World().exchange(chunked(OWN).encode()[:-2] + trailer)
    assert (200, OWN.body) == answered(result)
    assert isinstance(result, Answer)
    assert [b"content-type", b"x-own", b"transfer-encoding"] == [name for name, _ in result.headers]


SLICES = st.lists(st.integers(1, 40), max_size=30)
DOCUMENT = json.dumps({"result": list(range(40))}).encode()


def cut(data: bytes, sizes: list[int]) -> list[bytes]:
    """The data in pieces of these sizes, and the rest."""
    pieces, at = [], 0
    for size in sizes:
        pieces.append(data[at : at + size])
        at += size
    return [piece for piece in [*pieces, data[at:]] if piece]


@settings(max_examples=200, deadline=None)
@given(
    prefix=st.sampled_from([b"HTTP/1.1 200 OK\r\n", b"HTTP/1.", b"", OWN.head(), chunked(OWN).encode()[:-5]]),
    noise=st.binary(max_size=200) | st.text("\r\n 0123456789abcdef:;,HTP/.", max_size=60).map(str.encode),
    sizes=SLICES,
)
def test_any_bytes_are_an_answer_or_a_fault(prefix: bytes, noise: bytes, sizes: list[int]) -> None:
    """Whatever comes, in whatever pieces, the exchange ends; and a fault never quotes it."""

    async def scenario() -> None:
        world = World()
        result = await world.exchange(*cut(prefix + noise, sizes), fin)
        if isinstance(result, ProviderFault):
            assert result.cause in {Cause.DISCONNECTED, Cause.INVALID_REPLY, Cause.TOO_LARGE}
            assert result.detail.isascii()
        assert not world.connection.reusable

    asyncio.run(scenario())


@settings(max_examples=100, deadline=None)
@given(sizes=SLICES, chunk=st.integers(1, 50), interim=st.integers(0, 8))
def test_a_whole_answer_is_understood_however_it_is_cut(sizes: list[int], chunk: int, interim: int) -> None:
    async def scenario() -> None:
        data = b"HTTP/1.1 102 Processing\r\n\r\n" * interim + chunked(reply(200, DOCUMENT), chunk).encode()
        assert (200, DOCUMENT) == answered(await World().exchange(*cut(data, sizes)))

    asyncio.run(scenario())
