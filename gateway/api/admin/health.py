"""The face for those who watch: health, readiness, metrics."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from aiohttp import web

from gateway.http.body import make_response
from gateway.http.server import Request
from gateway.observability import metrics
from gateway.observability.metrics import Metrics


@dataclass(frozen=True, slots=True)
class OpsHandlers:
    """`ready` says whether new work should be sent here; providers that are down do not count.

    Nor does the store: runs that it need not keep go on. That it fails, as `store_fails` knows, is said all the same.
    """

    metrics: Metrics
    is_ready: Callable[[], bool]
    is_store_failing: Callable[[], bool]

    async def healthz(self, _request: Request) -> web.Response:
        """The process answers. It depends on nothing else."""
        return make_response(200, b'{"status":"alive"}', "application/json")

    async def readyz(self, _request: Request) -> web.Response:
        """Whether a load balancer should send requests here."""
        if self.is_ready() and self.is_store_failing():
            return make_response(200, b'{"status":"ready","store":"unavailable"}', "application/json")
        if self.is_ready():
            return make_response(200, b'{"status":"ready"}', "application/json")
        return make_response(503, b'{"status":"draining"}', "application/json", (("Retry-After", "1"),))

    async def render_metrics(self, _request: Request) -> web.Response:
        """Render the metrics in a thread: a long list would hold up every run."""
        body = await asyncio.to_thread(self.metrics.render)
        return make_response(200, body, metrics.CONTENT_TYPE)
