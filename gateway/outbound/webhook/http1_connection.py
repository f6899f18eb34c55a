"""HTTP/1.1 connection to a callback receiver, used for one request.

Unlike a `ProviderConnection` it reads into a buffer of fixed size, so that it never reads more than its limit, and it
needs the status of the response only.
"""

from __future__ import annotations

import asyncio
import enum
from typing import cast

import httptools

MAX_RESPONSE_BYTES = 20_000
_BUFFER_BYTES = 4096


class DeliveryFault(enum.Enum):
    """Reason why there is no status."""

    REFUSED = "refused"  # the target is not permitted: see `egress_policy`
    UNREACHABLE = "unreachable"  # connection refused, no route, or connect timeout
    UNTRUSTED = "untrusted"  # an unacceptable certificate or TLS version
    TIMEOUT = "timeout"  # connected, but no status in time
    DISCONNECTED = "disconnected"  # reset or closed before the status
    INVALID_REPLY = "invalid_reply"  # not HTTP, or its head is too large


class WebhookConnection(asyncio.BufferedProtocol):
    """Sends a request, given in one part or more, as soon as it is connected.

    `done` is resolved when the response is complete, too long, or lost. A `status` is final, whatever follows; without
    one, `fault` is the reason. `retry_after_fields` are the Retry-After fields of the response.
    """

    def __init__(self, *request: bytes) -> None:
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.status: int | None = None
        self.fault = DeliveryFault.TIMEOUT  # until `done`
        self.retry_after_fields: list[bytes] = []
        self._request: tuple[bytes, ...] = request
        self._parser = httptools.HttpResponseParser(self)
        self._buffer = memoryview(bytearray(_BUFFER_BYTES))
        self._remaining_bytes = MAX_RESPONSE_BYTES
        self._transport: asyncio.Transport | None = None

    def close(self) -> None:
        """Close the connection at once, without flushing."""
        if self._transport is not None:
            self._transport.abort()

    def _finish(self, fault: DeliveryFault) -> None:
        if not self.done.done():
            self.fault = fault
            self.done.set_result(None)

    # Callbacks of asyncio.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the request."""
        self._transport = cast("asyncio.Transport", transport)  # the transport of uvloop is no subclass
        for part in self._request:  # not joined: a body may be large
            self._transport.write(part)
        self._request = ()

    def get_buffer(self, _sizehint: int) -> memoryview:
        """Return a buffer that is not larger than the remaining limit; bytes after the end are discarded."""
        return self._buffer[: self._remaining_bytes] if self._remaining_bytes else self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Parse the bytes in the buffer."""
        if self.done.done():
            return
        self._remaining_bytes -= nbytes
        try:
            self._parser.feed_data(bytes(self._buffer[:nbytes]))
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._finish(DeliveryFault.INVALID_REPLY)
        if self._remaining_bytes == 0:
            self._finish(DeliveryFault.INVALID_REPLY)
        if self.done.done():
            self.close()

    def connection_lost(self, _exc: Exception | None) -> None:
        """End the exchange."""
        self._transport = None
        self._finish(DeliveryFault.DISCONNECTED)

    # Callbacks of the parser.

    def on_header(self, name: bytes, value: bytes) -> None:
        """Store Retry-After, unless it is a trailer field."""
        if self.status is None and name.lower() == b"retry-after":
            self.retry_after_fields.append(value)

    def on_headers_complete(self) -> None:
        """Store the status, unless the response is an interim one."""
        if self.status is None and self._parser.get_status_code() >= 200:
            self.status = self._parser.get_status_code()

    def on_message_complete(self) -> None:
        """End the exchange, or continue after an interim response."""
        if self.status is None:
            self.retry_after_fields.clear()
        else:
            self._finish(self.fault)
