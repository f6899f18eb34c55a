"""Body of a response that is passed on while it arrives."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from gateway.content_decoding import UndecodableError
from gateway.outbound.provider.redaction import ExposedKeyError, StreamRedaction
from providers.contract import Cause, ProviderFault, invalid

_HIGH_WATER = 65_536  # bytes that may wait to be read; beyond, nothing more is received


class ResponseStream:
    """Parts of a body, with back-pressure: a connection feeds them, and one task reads them.

    `pause`, `resume`: stop and continue receiving; `abort` closes the connection at once.
    """

    def __init__(self, pause: Callable[[], None], resume: Callable[[], None], abort: Callable[[], None]) -> None:
        self._pause, self._resume, self._abort = pause, resume, abort
        self._parts: deque[bytes] = deque()
        self._size = 0
        self._ended = False
        self._fault: ProviderFault | None = None
        self._changed = asyncio.Event()

    def feed(self, part: bytes) -> None:
        """Add a part."""
        self._parts.append(part)
        self._size += len(part)
        self._changed.set()
        if self._size > _HIGH_WATER:
            self._pause()

    def end(self, fault: ProviderFault | None) -> None:
        """End the body, with a fault if it is not complete. Only the first call counts."""
        if not self._ended:
            self._ended, self._fault = True, fault
            self._changed.set()

    async def read(self, seconds: float) -> bytes | None:
        """Return all parts that wait; None if nothing arrives in `seconds`, b"" at the end. Raises ProviderFault."""
        if not self._parts and not self._ended:
            self._changed.clear()
            try:
                async with asyncio.timeout(seconds):
                    await self._changed.wait()
            except TimeoutError:
                return None
        if not self._parts:
            if self._fault is not None:
                raise self._fault
            return b""
        body = b"".join(self._parts)
        self._parts.clear()
        if self._size > _HIGH_WATER:
            self._resume()
        self._size = 0
        return body

    def close(self) -> None:
        """Stop receiving: close the connection."""
        self._ended = True
        self._parts.clear()
        self._abort()


class RedactedStream:
    """A response's body for a client: without the provider's key, and read as long as the client is connected."""

    def __init__(self, source: ResponseStream, redaction: StreamRedaction) -> None:
        self._source, self._redaction = source, redaction

    async def read(self, *, idle_timeout: float, interval: float, client_connected: Callable[[], bool]) -> bytes | None:
        """Return the next part; b"" at the end, None once the client has disconnected: checked each `interval` seconds.

        Raises ProviderFault if the body ends before it is complete, if it quotes the key in a form that cannot be
        redacted, and if nothing arrives for `idle_timeout` seconds.
        """
        idle = 0.0
        while client_connected():
            part = await self._source.read(interval)
            if part is None:
                idle += interval
                if idle >= idle_timeout:
                    raise ProviderFault(Cause.TIMEOUT, "the response stopped")
                continue
            shown = self._redact(part) if part else self._redaction.finish()
            if shown or not part:
                return shown
        return None

    def _redact(self, part: bytes) -> bytes:
        try:
            return self._redaction.feed(part)
        except (ExposedKeyError, UndecodableError) as error:
            raise invalid(str(error)) from None
