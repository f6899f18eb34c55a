"""Poll hints: `POST /hints/{token}`, by which a provider notifies the gateway that a run has ended."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.http.request import Request
from gateway.http.response import Response
from gateway.runs.polling.provider_hints import ProviderHints


@dataclass(frozen=True, slots=True)
class PollHintHandler:
    """Handler for poll hints. The response does not depend on the token; the body is not read."""

    hints: ProviderHints

    async def receive(self, request: Request) -> Response:
        """Handle `POST /hints/{token}`: 204."""
        await self.hints.receive(request.path_param)
        return Response(204, b"", "")
