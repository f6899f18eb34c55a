"""Health API: liveness (`/healthz`), readiness (`/readyz`) and metrics (`/metrics`)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from gateway.http.headers import prefers_media_type
from gateway.http.request import Request
from gateway.http.response import Response, make_response
from gateway.observability.metrics import OPENMETRICS_CONTENT_TYPE, TEXT_CONTENT_TYPE, Metrics


@dataclass(frozen=True, slots=True)
class HealthHandlers:
    """Health handlers. `is_ready`: True unless the replica is draining.

    Readiness does not depend on providers, nor on the store: synchronous runs need no store. `/readyz` still reports a
    failing store.
    """

    metrics: Metrics
    is_ready: Callable[[], bool]
    is_store_failing: Callable[[], bool]

    async def healthz(self, _request: Request) -> Response:
        """Liveness: the process responds. Depends on nothing else."""
        return make_response(200, b'{"status":"alive"}', "application/json")

    async def readyz(self, _request: Request) -> Response:
        """Readiness: 200 if a load balancer should send requests to this replica, 503 while it drains."""
        if self.is_ready() and self.is_store_failing():
            return make_response(200, b'{"status":"ready","store":"unavailable"}', "application/json")
        if self.is_ready():
            return make_response(200, b'{"status":"ready"}', "application/json")
        return make_response(503, b'{"status":"draining"}', "application/json", (("Retry-After", "1"),))

    async def render_metrics(self, request: Request) -> Response:
        """Metrics in the format that `Accept` asks for."""
        return await metrics_response(self.metrics, request)


async def metrics_response(metrics: Metrics, request: Request) -> Response:
    """Metrics as OpenMetrics if `Accept` prefers it, else as Prometheus text. Rendered in a thread: it takes long."""
    if prefers_media_type(request.headers, "application/openmetrics-text", "text/plain"):
        body, content_type = await asyncio.to_thread(metrics.render_openmetrics), OPENMETRICS_CONTENT_TYPE
    else:
        body, content_type = await asyncio.to_thread(metrics.render), TEXT_CONTENT_TYPE
    return make_response(200, body, content_type, (("Vary", "Accept"),))
