"""Admin API for the console: events each second, `GET /api/stream`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from aiohttp import web

from gateway.api.admin.live_feed import LiveFeed
from gateway.api.run_events import EVENT_STREAM, STREAM_HEADERS
from gateway.clock import Clock
from gateway.http.request import AiohttpRequest, AnyResponse, Request, Route, always
from gateway.http.response import make_response

_MAX_STREAM_SECONDS = 600.0
"""Then the tab connects again, and its session is checked."""
_RETRY = b"retry: 2000\n\n"


@dataclass(frozen=True, slots=True)
class LiveStreamHandlers:
    """Handlers for the operations port."""

    feed: LiveFeed
    clock: Clock

    def routes(self) -> list[Route]:
        """Routes of the handlers."""
        return [Route("GET", "/api/stream", self.stream, "api_stream", streams=always)]

    async def stream(self, request: Request) -> AnyResponse:
        """Handle `GET /api/stream`: the events of the feed for ten minutes. Raises ConnectionError at a disconnect."""
        if request.method == "HEAD":
            return make_response(200, b"", EVENT_STREAM)
        tab = self.feed.subscribe()
        try:
            stream = web.StreamResponse(headers=STREAM_HEADERS)
            stream.headers["X-Request-Id"] = request.request_id
            await stream.prepare(cast("AiohttpRequest", request))
            is_connected = request.connection_check()
            ends_at = self.clock.monotonic() + _MAX_STREAM_SECONDS
            events: bytes | None = _RETRY
            while events is not None and self.clock.monotonic() < ends_at:
                await stream.write(events)
                events = await tab.get()
                if not is_connected():
                    raise ConnectionResetError("the client has disconnected")
            await stream.write_eof()
            return stream
        finally:
            self.feed.unsubscribe(tab)
