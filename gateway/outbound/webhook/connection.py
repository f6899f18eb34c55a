"""One request to a stranger, and the little of the answer that is read.

Unlike a provider's `Connection` it reads into a buffer of its own size, so that not one byte more is taken than it
counts; it needs the status alone, not a whole answer; and it is used once.
"""

from __future__ import annotations

import asyncio
import enum
from typing import cast

import httptools

MAX_RESPONSE_BYTES = 20_000
_BUFFER_BYTES = 4096


class DeliveryFault(enum.Enum):
    """Why no status came."""

    REFUSED = "refused"  # the target may not be called: see `egress`
    UNREACHABLE = "unreachable"  # refused, no route, or silent while connecting
    UNTRUSTED = "untrusted"  # a certificate or TLS version we do not accept
    TIMEOUT = "timeout"  # connected, and no status in time
    DISCONNECTED = "disconnected"  # reset or closed before the status
    INVALID_REPLY = "invalid_reply"  # not HTTP, or its head is too large


class WebhookConnection(asyncio.BufferedProtocol):
    """Sends a request as soon as it is connected.

    `over` is done when the answer is whole, too long, or can not come any more. Once there is a `status` it stays,
    whatever the body does; without one, `fault` says why. `hints` are the answer's Retry-After fields.
    """

    def __init__(self, request: bytes) -> None:
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.status: int | None = None
        self.fault = DeliveryFault.TIMEOUT  # until it is over
        self.retry_after_fields: list[bytes] = []
        self._request = request
        self._parser = httptools.HttpResponseParser(self)
        self._buffer = memoryview(bytearray(_BUFFER_BYTES))
        self._remaining_bytes = MAX_RESPONSE_BYTES
        self._transport: asyncio.Transport | None = None

    def close(self) -> None:
        """End the connection now, whatever is still to be sent."""
        if self._transport is not None:
            self._transport.abort()

    def _finish(self, fault: DeliveryFault) -> None:
        if not self.done.done():
            self.fault = fault
            self.done.set_result(None)

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by inheritance
        self._transport.write(self._request)

    def get_buffer(self, _sizehint: int) -> memoryview:
        """Offer no more room than may be read; what comes after the end goes nowhere."""
        return self._buffer[: self._remaining_bytes] if self._remaining_bytes else self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Parse."""
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
        """Nothing more can come, however it was lost."""
        self._transport = None
        self._finish(DeliveryFault.DISCONNECTED)

    # What the parser calls.

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep the one that matters, unless it comes behind the body."""
        if self.status is None and name.lower() == b"retry-after":
            self.retry_after_fields.append(value)

    def on_headers_complete(self) -> None:
        """Take the status, unless the answer is an interim one."""
        if self.status is None and self._parser.get_status_code() >= 200:
            self.status = self._parser.get_status_code()

    def on_message_complete(self) -> None:
        """Finish, or wait on after an interim answer."""
        if self.status is None:
            self.retry_after_fields.clear()
        else:
            self._finish(self.fault)
