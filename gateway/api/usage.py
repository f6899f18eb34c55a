"""Handler of `GET /usage`: a client's own usage."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from gateway.api.usage_query import answer_usage, parse_usage_query
from gateway.clock import Clock
from gateway.http.request import Request
from gateway.http.response import Response
from gateway.store.usage import UsageStore


@dataclass(frozen=True, slots=True)
class UsageHandler:
    """Handler of `GET /usage`. StoreUnavailable becomes a problem in the pipeline. `currency`: the configured one."""

    usage: UsageStore
    clock: Clock
    currency: Callable[[], str]

    async def show(self, request: Request) -> Response:
        """Answer with sums of the client's runs that meet the conditions, in groups; as JSON or CSV."""
        query = parse_usage_query(request.query, self.clock, client=request.client_name)
        return await answer_usage(self.usage, request, query, self.clock, self.currency())
