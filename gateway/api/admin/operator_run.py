"""Admin API for runs that an operator requests on behalf of a client: `POST /api/run`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from gateway.api.admin.cross_site import refuse_cross_site
from gateway.api.admin.protected_port import require_protected_port
from gateway.api.operator_runs import OperatorRunStarter
from gateway.http.body import read_json_body
from gateway.http.ops_authentication import actor_fields
from gateway.http.request import Request, Route
from gateway.http.response import Response, make_response
from gateway.json import strict_json
from gateway.observability.logger_protocol import Logger
from gateway.runs.rendering import JSON_CONTENT_TYPE
from gateway.settings import Settings

MAX_BODY = 1_000_000
"""Bytes of a request."""
_BODY_TIMEOUT = 10.0  # seconds


@dataclass(frozen=True, slots=True)
class OperatorRunHandlers:
    """Handlers for the operations port. `settings`: those in use."""

    starter: OperatorRunStarter
    settings: Callable[[], Settings]
    log: Logger

    def routes(self) -> list[Route]:
        """Routes of the handlers."""
        return [Route("POST", "/api/run", self.start, "api_run", action="runs.start")]

    async def start(self, request: Request) -> Response:
        """Handle `POST /api/run`: 202 with the id of the run, also for a repeated request."""
        refuse_cross_site(request, body='the body is an object with "client", "idempotency_key" and "run"')
        require_protected_port(self.settings(), "runs can be started here")
        run = await self.starter.start(await read_json_body(request, max_bytes=MAX_BODY, timeout=_BODY_TIMEOUT))
        request.audit_target = run.id
        request.audit_details = {"client": run.client, "workflow": run.workflow, "replayed": "yes" * run.replayed}
        if not run.replayed:
            fields = actor_fields(request)
            self.log.warning("operator_run_started", run_id=run.id, client=run.client, workflow=run.workflow, **fields)
        document = {"id": run.id, "client": run.client, "workflow": run.workflow, "replayed": run.replayed}
        location = (("Location", f"/api/runs/{run.id}"),)
        return make_response(202, strict_json.write(document), JSON_CONTENT_TYPE, location)
