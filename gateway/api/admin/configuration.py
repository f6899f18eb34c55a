"""Admin API for the configuration in use, without secrets: `GET /api/configuration`."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice

from gateway.api.admin.overview import GatewayState, reload_facts
from gateway.http.request import Request, Route
from gateway.http.response import Response, make_response
from gateway.json import strict_json
from gateway.runs.rendering import JSON_CONTENT_TYPE
from gateway.settings.effective import EffectiveValue, effective_values

MAX_VALUES = 20_000


@dataclass(frozen=True, slots=True)
class ConfigurationHandlers:
    """Handlers for the operations port."""

    state: GatewayState

    def routes(self) -> list[Route]:
        """Routes of the handlers."""
        return [Route("GET", "/api/configuration", self.show, "api_configuration", logged=False)]

    async def show(self, _request: Request) -> Response:
        """Handle `GET /api/configuration`: every value in use, and the last reload."""
        values = list(islice(effective_values(self.state.settings), MAX_VALUES + 1))
        document = {
            "values": [_document(value) for value in values[:MAX_VALUES]],
            "truncated": len(values) > MAX_VALUES,
            **reload_facts(self.state),
        }
        return make_response(200, strict_json.write(document), JSON_CONTENT_TYPE)


def _document(value: EffectiveValue) -> dict[str, object]:
    return {
        "path": value.path,
        "value": value.value,
        "hidden": value.hidden,
        "source": "configuration" if value.configured else "default",
    }
