"""The face for providers: `POST /hints/{token}`, by which one says that a run has ended."""

from __future__ import annotations

from dataclasses import dataclass

from aiohttp import web

from gateway.http.server import Request
from gateway.runs.polling.hints import PollHints


@dataclass(frozen=True, slots=True)
class PollHintHandler:
    """Whatever the token is, the answer is the same; of the body nothing is read."""

    hints: PollHints

    async def receive(self, request: Request) -> web.Response:
        """Answer `POST /hints/{token}`: 204."""
        await self.hints.receive(request.path_param)
        return web.Response(status=204, headers={"Server": "runward"})
