"""Connection to a callback receiver: the bounded read of its response."""

from __future__ import annotations

import asyncio
from itertools import cycle

import pytest

from gateway.outbound.webhook.http1_connection import MAX_RESPONSE_BYTES, DeliveryFault, WebhookConnection


class FakeWebhookTransport(asyncio.Transport):
    """A fake transport."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.aborted = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += bytes(data)

    def abort(self) -> None:
        self.aborted = True


def open_connection(request: bytes = b"POST / HTTP/1.1\r\n\r\n") -> tuple[WebhookConnection, FakeWebhookTransport]:
    connection, transport = WebhookConnection(request), FakeWebhookTransport()
    connection.connection_made(transport)
    return connection, transport


def feed(connection: WebhookConnection, data: bytes) -> None:
    """Feed bytes like the event loop: as many as fit the buffer, repeatedly."""
    while data:
        buffer = memoryview(connection.get_buffer(-1)).cast("B")
        assert buffer, "a loop takes no room for an error"
        size = min(len(buffer), len(data))
        buffer[:size] = data[:size]
        connection.buffer_updated(size)
        data = data[size:]


def result_of(connection: WebhookConnection) -> tuple[int | None, DeliveryFault | None]:
    """Return the status, or the reason for its absence."""
    assert connection.done.done()
    return connection.status, connection.fault if connection.status is None else None


async def test_it_sends_as_soon_as_it_is_connected() -> None:
    assert open_connection(b"hello")[1].written == b"hello"


@pytest.mark.parametrize("size", [1, 7, 4096])
async def test_a_whole_answer(size: int) -> None:
    """In any segmentation, the exchange and its connection end at the last byte."""
    connection, transport = open_connection()
    answer = b"HTTP/1.1 503 Later\r\nRetry-After: 7\r\nContent-Length: 5\r\n\r\nlater"
    for at in range(0, len(answer), size):
        assert not connection.done.done()
        feed(connection, answer[at : at + size])
    assert ((503, None), [b"7"], True) == (result_of(connection), connection.retry_after_fields, transport.aborted)


@pytest.mark.parametrize(
    "start",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3b9aca00\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX-Long: ",
        b"HTTP/1.1 100 Continue\r\n\r\n" * 500,
        b"\r\n" * 100,
    ],
)
async def test_an_endless_answer_is_read_to_20_kb(start: bytes) -> None:
    """R53: not a byte more is read; a status within it counts."""
    connection, transport = open_connection()
    taken = 0
    source = cycle(start + b"x" * 100_000)
    while not connection.done.done():
        room = memoryview(connection.get_buffer(-1)).cast("B")
        room[:] = bytes(next(source) for _ in room)
        connection.buffer_updated(len(room))
        taken += len(room)
    assert taken <= MAX_RESPONSE_BYTES
    assert transport.aborted
    assert result_of(connection) in {(200, None), (None, DeliveryFault.INVALID_REPLY)}
    assert (200 == connection.status) is (start.startswith(b"HTTP/1.1 200") and start.endswith(b"\r\n"))


async def test_bytes_behind_the_end_go_nowhere() -> None:
    """The event loop may deliver more before the connection is closed."""
    connection, _ = open_connection()
    feed(connection, b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * MAX_RESPONSE_BYTES)
    feed(connection, b"HTTP/1.1 500 Oops\r\n\r\n" * 1000)
    connection.connection_lost(None)
    assert (200, None) == result_of(connection)


async def test_interim_answers_are_passed_over() -> None:
    """RFC 9110, 15.2: the final response and its fields count."""
    connection, _ = open_connection()
    feed(connection, b"HTTP/1.1 103 Early Hints\r\nRetry-After: 1\r\n\r\n" * 3)
    assert not connection.done.done()
    feed(connection, b"HTTP/1.1 429 Slow Down\r\nRetry-After: 9\r\nContent-Length: 0\r\n\r\n")
    assert ((429, None), [b"9"]) == (result_of(connection), connection.retry_after_fields)


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"-ERR unknown command 'POST'\r\n",
        b"\x16\x03\x01\x00",
        b"HTTP/1.1 200 OK\nContent-Length: 0\n\n",
        b"HTTP/1.1 2x0 OK\r\n\r\n",
    ],
)
async def test_bytes_that_are_not_http(answer: bytes) -> None:
    """The exchange fails at once."""
    connection, transport = open_connection()
    feed(connection, answer)
    assert ((None, DeliveryFault.INVALID_REPLY), True) == (result_of(connection), transport.aborted)


@pytest.mark.parametrize(
    "body", [b"Content-Length: 10\r\n\r\nhalf", b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", b"\r\nuntil the end"]
)
async def test_a_status_stays_whatever_the_body_does(body: bytes) -> None:
    """The status of the receiver counts."""
    connection, _ = open_connection()
    feed(connection, b"HTTP/1.1 200 OK\r\n" + body)
    connection.connection_lost(ConnectionResetError())
    assert (200, None) == result_of(connection)


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 20", b"HTTP/1.1 200 OK\r\nContent-Le", b"HTTP/1.1 100 Yes\r\n\r\n"])
async def test_closed_before_the_status(answer: bytes) -> None:
    """An incomplete head has no status."""
    connection, _ = open_connection()
    feed(connection, answer)
    connection.connection_lost(None)
    assert (None, DeliveryFault.DISCONNECTED) == result_of(connection)


async def test_a_retry_after_behind_the_body_is_none() -> None:
    """Trailers are not read."""
    connection, _ = open_connection()
    feed(connection, b"HTTP/1.1 500 Oops\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nRetry-After: 5\r\n\r\n")
    assert ((500, None), []) == (result_of(connection), connection.retry_after_fields)
