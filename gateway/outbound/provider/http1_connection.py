"""HTTP/1.1 connection to a provider, with one exchange at a time.

The parser is llhttp (of Node.js, through httptools). It rejects known vectors of response smuggling: two lengths, a
length with chunks, folded headers, bare line feeds. This module bounds the sizes.
"""

from __future__ import annotations

import asyncio
import select
import socket
from collections.abc import Callable
from typing import NamedTuple, cast

import httptools

from gateway.byte_budget import LARGE, Claim, Hold, current_hold
from gateway.outbound.provider.stream import ResponseStream
from gateway.write_batch import WriteBatch
from providers.contract import Cause, ProviderFault, invalid

_MAX_HEAD_BYTES = 65_536
_MAX_CHUNK_FRAMING_BYTES = 16  # bytes around a chunk: eight digits and two line ends are 12
_MAX_INTERIM_RESPONSES = 8


class HttpResponse(NamedTuple):
    """A response: complete with its `body`, or with a `stream` for the body. Header names are lower case.

    A large body may be a bytearray.
    """

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes
    stream: ResponseStream | None = None


class ProviderConnection(asyncio.Protocol):
    """Sends a request, and resolves a future with its response or a `ProviderFault`.

    `idle_since` belongs to the connection pool. After anything but one complete response the connection is closed.
    """

    def __init__(
        self, max_body: int, on_lost: Callable[[ProviderConnection], None], write_batch: WriteBatch | None = None
    ) -> None:
        """`max_body`: bytes. `write_batch`: its own by default."""
        self.idle_since = 0.0
        self._write_batch = write_batch or WriteBatch()
        self._unsent = b""
        self._max_body = max_body
        self._on_lost = on_lost
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._probe: select.poll | None = None
        self._waiter: asyncio.Future[HttpResponse] | None = None
        self._hold: Hold | None = None
        self._claim: Claim | None = None
        self._claim_timer: asyncio.TimerHandle | None = None
        self._deadline = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self._stream: ResponseStream | None = None
        self._parser = httptools.HttpResponseParser(self)  # for every response: after a fault the connection is closed
        self._reset(max_body, may_stream=False)

    def _reset(self, body_limit: int, *, may_stream: bool) -> None:
        self._may_stream = may_stream
        self._body_limit = body_limit
        self._fault: ProviderFault | None = None
        self._status = 0
        self._headers: list[tuple[bytes, bytes]] = []
        self._body: list[bytes] = []
        self._large_body: bytearray | None = None
        self._received = self._body_size = self._chunks = self._interim_responses = self._length = 0
        self._has_head = self._complete = self._keep_alive = False
        self._ends_with_connection = True

    @property
    def reusable(self) -> bool:
        """True if the connection is open and idle."""
        transport = self._transport
        return transport is not None and self._waiter is None and self._stream is None and not transport.is_closing()

    @property
    def _is_open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    def is_silent(self) -> bool:
        """Probe the idle connection. Returns False if it is closed, or has an EOF or bytes that were not read yet."""
        if not self.reusable:
            return False
        return self._probe is None or not self._probe.poll(0)

    def exchange(
        self, request: bytes, seconds: float, *, max_body: int | None = None, may_stream: bool = False
    ) -> asyncio.Future[HttpResponse]:
        """Send `request` with the write batch; returns a future of its response or a ProviderFault, within `seconds`.

        A caller that does not wait for the future any longer has to `abort` the connection. `max_body`: the maximum
        size of the body, if not the connection's own. `may_stream`: a response without a length, or of server-sent
        events, is returned with a `stream` once its head has arrived; its connection is not used again. Once this
        method has returned, the request counts as sent, unless the fault is UNREACHABLE. Raises ProviderFault.
        """
        transport = self._transport
        if transport is None or transport.is_closing():
            raise ProviderFault(Cause.UNREACHABLE, "the connection was closed before it was used")
        if seconds <= 0:
            self.abort()
            raise ProviderFault(Cause.UNREACHABLE, "the deadline passed before the connection was used")
        self._reset(max_body or self._max_body, may_stream=may_stream)
        self._waiter = waiter = self._loop.create_future()
        self._hold, self._claim, self._deadline = current_hold.get(), None, self._loop.time() + seconds
        if self._timer is None or self._timer_at > self._deadline:
            self._start_timer()
        self._unsent = request
        self._write_batch.add(self)
        return waiter

    def write_pending(self) -> None:
        """Send the request of the exchange in progress, if it is to be sent."""
        request, transport = self._unsent, self._transport
        if transport is not None and not transport.is_closing():
            self._unsent = b""
            transport.write(request)

    def abort(self) -> None:
        """Close the connection at once, without flushing; a response in progress is incomplete."""
        self._ends_with_connection = False
        if self._transport is not None:
            self._transport.abort()

    def _start_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = self._deadline
        self._timer = self._loop.call_at(self._deadline, self._on_timer)

    def _on_timer(self) -> None:
        """End the exchange in progress if its deadline has passed.

        The timer outlives an exchange: most end long before their deadline, and the next one need not start a timer.
        """
        self._timer = None
        if self._waiter is None or self._waiter.done():
            return
        if self._timer_at < self._deadline:
            self._start_timer()
        elif self._unsent:
            self._resolve(ProviderFault(Cause.UNREACHABLE, "the deadline passed before the request was sent"))
        else:
            self._resolve(ProviderFault(Cause.TIMEOUT, "no complete response arrived in time"))

    def _resolve(self, fault: ProviderFault | None) -> None:
        """End the exchange with its response or its fault."""
        if self._stream is not None:
            self._stream.end(fault)
            self.abort()
            return
        waiter = self._waiter
        if waiter is None or waiter.done():
            return
        if fault is not None:
            self._end_exchange()
            self.abort()
            waiter.set_exception(fault)
            return
        body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        if self._large_body is not None:
            body = cast("bytes", self._large_body)  # a copy would take as much again
        if self._hold is not None:
            self._hold.receive_answer(len(body))
        self._end_exchange()
        if not self._keep_alive and self._transport is not None:
            self._transport.close()
        waiter.set_result(HttpResponse(self._status, self._headers, body))

    def _end_exchange(self) -> None:
        """Free what belongs to the exchange: an idle connection keeps no response."""
        self._waiter, self._body, self._large_body = None, [], None
        if self._claim_timer is not None:
            self._end_claim()

    def _claim_room(self, size: int) -> None:
        """Pause reading until the byte budget has room for the response, at most for half of the time that is left.

        The response may have been paid for: it is read in any case.
        """
        hold, transport = self._hold, self._transport
        if hold is None or transport is None or self._claim is not None:
            return
        if hold.covers(max(self._length, self._body_size)) or hold.grow_answer(size):
            return
        transport.pause_reading()
        self._claim = hold.await_room(size, self._end_claim)
        self._claim_timer = self._loop.call_at((self._loop.time() + self._deadline) / 2, self._end_claim)

    def _end_claim(self) -> None:
        """Go on reading."""
        claim, timer = self._claim, self._claim_timer
        if claim is not None:
            claim.cancelled = True
        if timer is not None:
            timer.cancel()
        self._claim_timer = None  # the claim stays, so that there is one for each response
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def _begin_stream(self) -> None:
        """Return the response with a stream of its body."""
        waiter, transport = self._waiter, self._transport
        if waiter is None or waiter.done() or transport is None:
            return
        self._stream = ResponseStream(self._pause_reading, self._resume_reading, self.abort)
        for part in (*self._body, bytes(self._large_body or b"")):
            if part:
                self._stream.feed(part)
        if self._hold is not None:
            self._hold.receive_answer(0)
        self._end_exchange()
        waiter.set_result(HttpResponse(self._status, self._headers, b"", self._stream))

    def _pause_reading(self) -> None:
        if self._is_open and self._transport is not None:
            self._transport.pause_reading()

    def _resume_reading(self) -> None:
        if self._is_open and self._transport is not None:
            self._transport.resume_reading()

    def _is_streamed(self) -> bool:
        """Return True for a response whose end is not in sight: without a length, or of server-sent events."""
        names = dict(self._headers)
        media_type = names.get(b"content-type", b"").partition(b";")[0].strip().lower()
        return b"content-length" not in names or media_type == b"text/event-stream"

    # Callbacks of asyncio.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Store the transport, and enable TCP keep-alive to detect a vanished peer."""
        self._transport = cast("asyncio.Transport", transport)  # the transport of uvloop is no subclass
        connected = transport.get_extra_info("socket")
        if connected is not None:
            self._probe = select.poll()
            self._probe.register(connected, select.POLLIN | select.POLLPRI)
            connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)

    def data_received(self, data: bytes) -> None:
        """Parse the response. Bytes outside of an exchange, or before its request, close the connection."""
        if self._unsent or (self._stream is None and (self._waiter is None or self._waiter.done())):
            self.abort()
            return
        self._received += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._fault = self._fault or invalid("the response is not valid HTTP/1.1 (RFC 9112)")
        if self._received - self._body_size > _MAX_HEAD_BYTES + _MAX_CHUNK_FRAMING_BYTES * self._chunks:
            self._fault = self._fault or invalid("the head of the response is too large")
        if self._fault is not None or self._complete:
            self._resolve(self._fault)
        elif self._may_stream and self._has_head and self._stream is None and self._is_streamed():
            self._begin_stream()

    def connection_lost(self, exc: Exception | None) -> None:
        """End the exchange in progress: with its response if the end of the connection delimits it, or with a fault."""
        self._transport = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._on_lost(self)
        if self._has_head and self._ends_with_connection and exc is None:
            self._resolve(None)
        elif self._has_head:
            self._resolve(invalid("the response is not complete"))
        elif self._unsent:
            self._resolve(ProviderFault(Cause.UNREACHABLE, "the connection was closed before the request was sent"))
        else:
            self._resolve(ProviderFault(Cause.DISCONNECTED, "the connection was closed before the response arrived"))
        del self._parser  # breaks the reference cycle

    # Callbacks of the parser.

    def on_message_begin(self) -> None:
        """Reject a second response: the response of the request cannot be determined."""
        if self._complete:
            self._fault = invalid("more than one response arrived")

    def on_header(self, name: bytes, value: bytes) -> None:
        """Store a header field, ignore a trailer field, and reject a Content-Length above the limit."""
        if self._has_head:
            return
        name = name.lower()
        self._headers.append((name, value))
        if name == b"content-length":
            self._ends_with_connection = False
            self._length = int(value)
            if self._length > self._body_limit:
                self._reject_size()
        elif name == b"transfer-encoding":
            self._ends_with_connection = False

    def on_headers_complete(self) -> None:
        """Read the status; a status below 200 is an interim response."""
        self._status = self._parser.get_status_code()
        if self._parser.get_http_version() not in {"1.1", "1.0"} or self._status < 100:
            self._fault = invalid("the response is of another version of HTTP")
        self._has_head = self._status >= 200
        if self._length >= LARGE and self._has_head and self._fault is None:
            self._large_body = bytearray()  # pieces would be joined by a copy
            self._claim_room(self._length)

    def on_chunk_header(self) -> None:
        """Count a chunk: its framing does not count as head."""
        self._chunks += 1

    def on_body(self, body: bytes) -> None:
        """Store a part of the body, within the limit."""
        self._body_size += len(body)
        if self._body_size > self._body_limit:
            self._reject_size()
        elif self._stream is not None:
            self._stream.feed(body)
        elif self._large_body is not None:
            self._large_body += body
        else:
            self._body.append(body)
            if self._body_size >= LARGE:  # of a length that was not stated
                self._claim_room(self._body_limit)

    def on_message_complete(self) -> None:
        """Complete the response, or continue after an interim response (RFC 9110, 15.2), of which a few are allowed."""
        if self._has_head:
            self._keep_alive = self._parser.should_keep_alive()
            self._complete = True
            return
        self._interim_responses += 1
        self._headers, self._length = [], 0
        self._ends_with_connection = True
        if self._interim_responses > _MAX_INTERIM_RESPONSES:
            self._fault = invalid("too many interim responses arrived")

    def _reject_size(self) -> None:
        self._body = []
        self._fault = ProviderFault(Cause.TOO_LARGE, f"the response has more than {self._body_limit} bytes")
