"""Admin API for usage: how many runs there were by day, and what they cost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from gateway.api.usage_query import answer_usage, parse_usage_query
from gateway.clock import Clock
from gateway.http.ops_authentication import team_of
from gateway.http.request import Request, Route
from gateway.http.response import Response
from gateway.store.usage import UsageStore


@dataclass(frozen=True, slots=True)
class UsageAdminHandlers:
    """Handlers for the operations port: they cover all clients, or those of a viewer's team.

    StoreUnavailable becomes a problem in the pipeline. `currency` returns the configured one.
    """

    usage: UsageStore
    clock: Clock
    currency: Callable[[], str]

    def routes(self) -> list[Route]:
        """Routes of the handlers."""
        return [Route("GET", "/api/usage", self.show, "api_usage", shows_team=True)]

    async def show(self, request: Request) -> Response:
        """Handle `GET /api/usage`: sums of the runs that meet the conditions, in groups; as JSON or CSV."""
        query = parse_usage_query(request.query, self.clock, team=team_of(request))
        return await answer_usage(self.usage, request, query, self.clock, self.currency())
