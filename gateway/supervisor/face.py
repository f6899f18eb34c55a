"""The operations port of a gateway of several workers: what it answers, the workers answer together."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from aiohttp import web

from gateway import metrics as metrics_room
from gateway.api.callbacks import CallbacksFace
from gateway.api.docs import DocsFace
from gateway.api.middleware import observe
from gateway.api.server import Request, Route, Server
from gateway.api.wire import answer
from gateway.metrics import Metrics
from gateway.supervisor.crew import Crew


@dataclass(frozen=True, slots=True)
class CrewFace:
    """Health, readiness and metrics of a crew, and the callbacks of its runs."""

    crew: Crew
    callbacks: CallbacksFace

    async def healthz(self, _request: Request) -> web.Response:
        """The supervisor lives, and so does at least one worker."""
        if self.crew.answering:
            return answer(200, b'{"status":"alive"}', "application/json")
        return _unavailable("no worker answers")

    async def readyz(self, _request: Request) -> web.Response:
        """At least half of the workers take requests: one that is being replaced does not turn a machine away.

        That the store fails, as a worker finds, is said all the same.
        """
        if self.crew.draining.is_set():
            return _unavailable("draining")
        if 2 * self.crew.ready < self.crew.count:
            return _unavailable("too few workers")
        if self.crew.store_fails:
            return answer(200, b'{"status":"ready","store":"unavailable"}', "application/json")
        return answer(200, b'{"status":"ready"}', "application/json")

    async def render_metrics(self, _request: Request) -> web.Response:
        """The sums, asked for now."""
        shown = Metrics.showing(await self.crew.ask())
        return answer(200, await asyncio.to_thread(shown.render), metrics_room.CONTENT_TYPE)

    def server(self, *, header_timeout: float) -> Server:
        """What answers on the port: the routes that a gateway of one process has there."""
        routes = [
            Route("GET", "/metrics", self.render_metrics, "metrics", logged=False),
            Route("GET", "/healthz", self.healthz, "healthz", logged=False),
            Route("GET", "/readyz", self.readyz, "readyz", logged=False),
            *self.callbacks.routes(),
            *DocsFace.load().ops_routes(),
        ]
        observed = observe(self.crew.metrics, self.crew.log, self.crew.clock)
        return Server(routes, [observed], header_timeout=header_timeout)


def _unavailable(status: str) -> web.Response:
    return answer(503, f'{{"status":"{status}"}}'.encode(), "application/json", (("Retry-After", "1"),))
