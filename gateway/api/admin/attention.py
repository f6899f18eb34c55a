"""Admin API for what needs an operator: `GET /api/attention`."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from gateway.clock import format_rfc3339
from gateway.http.request import Request, Route
from gateway.http.response import Response, make_response
from gateway.json import strict_json
from gateway.runs.attention.monitor import AttentionMonitor
from gateway.runs.rendering import JSON_CONTENT_TYPE


@dataclass(frozen=True, slots=True)
class AttentionHandlers:
    """Handlers for the operations port."""

    monitor: AttentionMonitor

    def routes(self) -> list[Route]:
        """Routes of the handlers."""
        return [Route("GET", "/api/attention", self.list_items, "attention")]

    async def list_items(self, _request: Request) -> Response:
        """Handle `GET /api/attention`: the items, critical ones first. A source that cannot be read is an item too."""
        found = await self.monitor.collect()
        document = {
            "items": [item.document() for item in found.items],
            "checked_at": format_rfc3339(datetime.fromtimestamp(found.checked_at, UTC)),
        }
        return make_response(200, strict_json.write(document), JSON_CONTENT_TYPE)
