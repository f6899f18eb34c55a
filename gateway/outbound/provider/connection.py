"""One connection to a provider, and the one exchange at a time that goes over it.

The parser is llhttp (Node's, by way of httptools), which refuses by itself what has smuggled answers before: two
lengths, a length beside chunks, folded headers, bare line feeds. What is counted here are sizes.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import NamedTuple, cast

import httptools

from providers.contract import Cause, ProviderFault, invalid

_MAX_HEAD_BYTES = 65_536
_MAX_CHUNK_FRAMING_BYTES = 16  # bytes around a chunk: eight digits and two line ends are 12
_MAX_INTERIM_RESPONSES = 8


class HttpResponse(NamedTuple):
    """An answer that arrived whole. Header names are lower case."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes


class ProviderConnection(asyncio.Protocol):
    """Sends a request, and hands out its answer or the `ProviderFault` that took its place.

    `idle_since` is the owner's. A connection that met anything but one whole answer is closed, never used again.
    """

    def __init__(self, max_body: int, on_lost: Callable[[ProviderConnection], None]) -> None:
        self.idle_since = 0.0
        self._max_body = max_body
        self._on_lost = on_lost
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._waiter: asyncio.Future[HttpResponse] | None = None
        self._reset()

    def _reset(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._fault: ProviderFault | None = None
        self._status = 0
        self._headers: list[tuple[bytes, bytes]] = []
        self._body: list[bytes] = []
        self._received = self._body_size = self._chunks = self._interim_responses = 0
        self._has_head = self._complete = self._keep_alive = False
        self._ends_with_connection = True

    @property
    def reusable(self) -> bool:
        """Whether another exchange may go over it."""
        return self._transport is not None and not self._transport.is_closing() and self._waiter is None

    async def exchange(self, request: bytes, seconds: float) -> HttpResponse:
        """Send `request` and wait for its answer, `seconds` at most.

        From the call on, the request counts as sent. Raises ProviderFault.
        """
        transport = self._transport
        if transport is None or transport.is_closing():
            raise ProviderFault(Cause.UNREACHABLE, "the connection was closed before it was used")
        if seconds <= 0:
            self.abort()
            raise ProviderFault(Cause.UNREACHABLE, "the time was over before the connection was used")
        self._reset()
        self._waiter = waiter = self._loop.create_future()
        timer = self._loop.call_later(seconds, self._on_timeout)
        transport.write(request)
        try:
            response: HttpResponse = await waiter
        except BaseException:
            self.abort()
            raise
        finally:
            timer.cancel()
            self._waiter = None
            self._body = []  # a connection that rests keeps no answer
        if not self._keep_alive:
            transport.close()
        return response

    def abort(self) -> None:
        """Close it now, whatever is still to be sent; what was read so far is no answer."""
        self._ends_with_connection = False
        if self._transport is not None:
            self._transport.abort()

    def _on_timeout(self) -> None:
        self._resolve(ProviderFault(Cause.TIMEOUT, "no whole answer came in time"))

    def _resolve(self, fault: ProviderFault | None) -> None:
        """Give the waiting exchange its answer or its fault."""
        if self._waiter is None or self._waiter.done():
            return
        if fault is not None:
            self._waiter.set_exception(fault)
        else:
            body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
            self._waiter.set_result(HttpResponse(self._status, self._headers, body))

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport, and have the system notice a peer that vanished."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by inheritance
        connected = transport.get_extra_info("socket")
        if connected is not None:
            connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)

    def data_received(self, data: bytes) -> None:
        """Parse. Bytes that nobody asked for end the connection."""
        if self._waiter is None or self._waiter.done():
            self.abort()
            return
        self._received += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._fault = self._fault or invalid("the answer is not HTTP as RFC 9112 has it")
        if self._received - self._body_size > _MAX_HEAD_BYTES + _MAX_CHUNK_FRAMING_BYTES * self._chunks:
            self._fault = self._fault or invalid("the answer's head is too large")
        if self._fault is not None or self._complete:
            self._resolve(self._fault)

    def connection_lost(self, exc: Exception | None) -> None:
        """Decide what the end of the connection means for the exchange on it."""
        self._transport = None
        self._on_lost(self)
        if self._has_head and self._ends_with_connection and exc is None:
            self._resolve(None)
        elif self._has_head:
            self._resolve(invalid("the answer is not whole"))
        else:
            self._resolve(ProviderFault(Cause.DISCONNECTED, "the connection was closed before the answer came"))
        del self._parser  # the two hold each other

    # What the parser calls.

    def on_message_begin(self) -> None:
        """Notice an answer behind the answer: which of them is ours can not be known."""
        if self._complete:
            self._fault = invalid("more than one answer came")

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep it, unless it comes behind the body; and refuse a body that says it is too large before it comes."""
        if self._has_head:
            return
        name = name.lower()
        self._headers.append((name, value))
        if name == b"content-length":
            self._ends_with_connection = False
            if int(value) > self._max_body:
                self._reject_size()
        elif name == b"transfer-encoding":
            self._ends_with_connection = False

    def on_headers_complete(self) -> None:
        """Take the status; this is the answer unless it is an interim one."""
        self._status = self._parser.get_status_code()
        if self._parser.get_http_version() not in {"1.1", "1.0"} or self._status < 100:
            self._fault = invalid("the answer is of another version of HTTP")
        self._has_head = self._status >= 200

    def on_chunk_header(self) -> None:
        """Allow for the bytes that frame it: what else is not body (head, trailer, extensions) is head."""
        self._chunks += 1

    def on_body(self, body: bytes) -> None:
        """Count and keep."""
        self._body_size += len(body)
        if self._body_size > self._max_body:
            self._reject_size()
        else:
            self._body.append(body)

    def on_message_complete(self) -> None:
        """Finish, or wait on after an interim answer (RFC 9110, 15.2: any number of them; here, a few)."""
        if self._has_head:
            self._keep_alive = self._parser.should_keep_alive()
            self._complete = True
            return
        self._interim_responses += 1
        self._headers = []
        self._ends_with_connection = True
        if self._interim_responses > _MAX_INTERIM_RESPONSES:
            self._fault = invalid("too many interim answers came")

    def _reject_size(self) -> None:
        self._body = []
        self._fault = ProviderFault(Cause.TOO_LARGE, f"the answer has more than {self._max_body} bytes")
