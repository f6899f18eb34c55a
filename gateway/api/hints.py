"""The face for providers: `POST /hints/{token}`, by which one says that a run has ended."""

from __future__ import annotations

from dataclasses import dataclass

from aiohttp import web

from gateway.api.server import Request
from gateway.runs.hints import Hints


@dataclass(frozen=True, slots=True)
class HintsFace:
    """Whatever the token is, the answer is the same; of the body nothing is read."""

    hints: Hints

    async def take(self, request: Request) -> web.Response:
        """Answer `POST /hints/{token}`: 204."""
        await self.hints.receive(request.tail)
        return web.Response(status=204, headers={"Server": "runward"})
