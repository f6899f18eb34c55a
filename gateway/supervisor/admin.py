"""The operations port of a gateway of several workers: what it answers, the workers answer together."""

from __future__ import annotations

from dataclasses import dataclass

from aiohttp import web

from gateway.api.admin.callbacks import CallbackAdminHandlers
from gateway.api.admin.health import metrics_response
from gateway.api.docs.page import DocsHandlers
from gateway.http.middleware import access_log
from gateway.http.response import make_response
from gateway.http.server import Request, Route, Server
from gateway.observability.metrics import Metrics
from gateway.supervisor.worker_pool import WorkerPool


@dataclass(frozen=True, slots=True)
class SupervisorAdmin:
    """Health, readiness and metrics of a crew, and the callbacks of its runs."""

    pool: WorkerPool
    callbacks: CallbackAdminHandlers

    async def healthz(self, _request: Request) -> web.Response:
        """The supervisor lives, and so does at least one worker."""
        if self.pool.responsive_count:
            return make_response(200, b'{"status":"alive"}', "application/json")
        return _unavailable("no worker answers")

    async def readyz(self, _request: Request) -> web.Response:
        """At least half of the workers take requests: one that is being replaced does not turn a machine away.

        That the store fails, as a worker finds, is said all the same.
        """
        if self.pool.draining.is_set():
            return _unavailable("draining")
        if 2 * self.pool.ready_count < self.pool.count:
            return _unavailable("too few workers")
        if self.pool.store_fails:
            return make_response(200, b'{"status":"ready","store":"unavailable"}', "application/json")
        return make_response(200, b'{"status":"ready"}', "application/json")

    async def render_metrics(self, request: Request) -> web.Response:
        """Sums of the metrics of all workers."""
        return await metrics_response(Metrics.from_export(await self.pool.collect_metrics()), request)

    def build_server(self, *, header_timeout: float) -> Server:
        """What answers on the port: the routes that a gateway of one process has there."""
        routes = [
            Route("GET", "/metrics", self.render_metrics, "metrics", logged=False),
            Route("GET", "/healthz", self.healthz, "healthz", logged=False),
            Route("GET", "/readyz", self.readyz, "readyz", logged=False),
            *self.callbacks.routes(),
            *DocsHandlers.load().ops_routes(),
        ]
        logging_middleware = access_log(self.pool.metrics, self.pool.log, self.pool.clock)
        return Server(routes, [logging_middleware], header_timeout=header_timeout)


def _unavailable(status: str) -> web.Response:
    return make_response(503, f'{{"status":"{status}"}}'.encode(), "application/json", (("Retry-After", "1"),))
