"""The face for those who watch: health, readiness, metrics."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from aiohttp import web

from gateway import metrics as metrics_room
from gateway.api.server import Request
from gateway.api.wire import answer
from gateway.metrics import Metrics


@dataclass(frozen=True, slots=True)
class OpsFace:
    """`ready` says whether new work should be sent here; providers that are down do not count.

    Nor does the store: runs that it need not keep go on. That it fails, as `store_fails` knows, is said all the same.
    """

    metrics: Metrics
    ready: Callable[[], bool]
    store_fails: Callable[[], bool]

    async def healthz(self, _request: Request) -> web.Response:
        """The process answers. It depends on nothing else."""
        return answer(200, b'{"status":"alive"}', "application/json")

    async def readyz(self, _request: Request) -> web.Response:
        """Whether a load balancer should send requests here."""
        if self.ready() and self.store_fails():
            return answer(200, b'{"status":"ready","store":"unavailable"}', "application/json")
        if self.ready():
            return answer(200, b'{"status":"ready"}', "application/json")
        return answer(503, b'{"status":"draining"}', "application/json", (("Retry-After", "1"),))

    async def render_metrics(self, _request: Request) -> web.Response:
        """Render the metrics in a thread: a long list would hold up every run."""
        body = await asyncio.to_thread(self.metrics.render)
        return answer(200, body, metrics_room.CONTENT_TYPE)
