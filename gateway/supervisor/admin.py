"""Operations port of a gateway with several workers: health, readiness and metrics of all workers together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gateway.api.admin.health import metrics_response
from gateway.api.admin.overview import GatewayState
from gateway.api.docs.page import DocsHandlers
from gateway.audit.recorder import AuditRecorder
from gateway.http.audit_trail import AuditTrail, require_actions
from gateway.http.ops_authentication import OpsAuthenticator, keep_private
from gateway.http.pipeline import RequestPipeline
from gateway.http.request import Middleware, Request, Route
from gateway.http.response import Response, make_response
from gateway.http.server import Server
from gateway.observability.metrics import Metrics
from gateway.observability.metrics_history import MetricsHistory
from gateway.settings import Settings
from gateway.supervisor.worker_pool import WorkerPool


@dataclass(frozen=True, slots=True)
class SupervisorAdmin:
    """Health, readiness and metrics of a worker pool. `admin_routes`: the other routes of the port."""

    pool: WorkerPool
    admin_routes: Sequence[Route]

    async def healthz(self, _request: Request) -> Response:
        """Liveness: 200 if at least one worker responds."""
        if self.pool.responsive_count:
            return make_response(200, b'{"status":"alive"}', "application/json")
        return _unavailable("no worker responds")

    async def readyz(self, _request: Request) -> Response:
        """Readiness: 200 if at least half of the workers accept requests; one restart does not remove the machine.

        The body reports a failing store as well.
        """
        if self.pool.draining.is_set():
            return _unavailable("draining")
        if 2 * self.pool.ready_count < self.pool.count:
            return _unavailable("too few workers")
        if self.pool.store_fails:
            return make_response(200, b'{"status":"ready","store":"unavailable"}', "application/json")
        return make_response(200, b'{"status":"ready"}', "application/json")

    async def render_metrics(self, request: Request) -> Response:
        """Sums of the metrics of all workers."""
        return await metrics_response(await collect_metrics(self.pool), request)

    def routes(self) -> list[Route]:
        """Return the routes of the port: the same as in a gateway of one process."""
        return [
            Route("GET", "/metrics", self.render_metrics, "metrics", logged=False),
            Route("GET", "/healthz", self.healthz, "healthz", logged=False),
            Route("GET", "/readyz", self.readyz, "readyz", logged=False),
            *self.admin_routes,
            *DocsHandlers.load().ops_routes(),
        ]

    def build_server(
        self,
        authenticator: OpsAuthenticator,
        audit: AuditRecorder,
        *,
        header_timeout: float,
        idle_timeout: float,
        max_header: int,
    ) -> Server:
        """Return the server of the port. Raises ValueError if a route that changes something would not be recorded."""
        routes = self.routes()
        require_actions(routes)
        pipeline = RequestPipeline(self.pool.metrics, self.pool.log, self.pool.clock)
        middlewares: list[Middleware] = [keep_private, pipeline, AuditTrail(authenticator, audit)]
        return Server(
            routes, middlewares, header_timeout=header_timeout, idle_timeout=idle_timeout, max_header=max_header
        )


async def collect_metrics(pool: WorkerPool) -> Metrics:
    """Return the sums of the metrics of all workers."""
    return Metrics.from_export(await pool.collect_metrics(), pool.exemplars)


def gateway_state(settings: Settings, pool: WorkerPool) -> GatewayState:
    """Return what the console shows of all workers together. Its history is to be started."""
    history = MetricsHistory(pool.latest_metrics, pool.clock, pool.log)
    started_at = pool.clock.now().timestamp()
    return GatewayState(settings, history, pool.draining.is_set, started_at, pool.count)


def _unavailable(status: str) -> Response:
    return make_response(503, f'{{"status":"{status}"}}'.encode(), "application/json", (("Retry-After", "1"),))
