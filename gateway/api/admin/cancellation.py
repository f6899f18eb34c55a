"""Admin API for cancellations: `POST /api/runs/{id}/cancel`."""

from __future__ import annotations

import re
from dataclasses import dataclass

from gateway.api.admin.callbacks import RUN_ID_PATTERN
from gateway.api.admin.cross_site import refuse_cross_site
from gateway.api.operator_cancellations import RunCanceller
from gateway.http.ops_authentication import actor_fields
from gateway.http.request import Request, Route
from gateway.http.response import Response, make_response
from gateway.json import strict_json
from gateway.observability.logger_protocol import Logger
from gateway.problems import Problem
from gateway.runs.rendering import JSON_CONTENT_TYPE

_VALID_RUN_ID = re.compile(RUN_ID_PATTERN).fullmatch


@dataclass(frozen=True, slots=True)
class CancellationHandlers:
    """Handlers for the operations port: they cover the runs of every client.

    StoreUnavailable becomes the problem `store_unavailable` in the `access_log` middleware.
    """

    canceller: RunCanceller
    log: Logger

    def routes(self) -> list[Route]:
        """Routes of the handlers."""
        return [Route("POST", "/api/runs/{path}/cancel", self.cancel, "api_runs", action="runs.cancel")]

    async def cancel(self, request: Request) -> Response:
        """Handle `POST /api/runs/{id}/cancel`: 200 if no start was and none will be sent, 202 if one may have been.

        Is idempotent. Raises RunNotFound, Problem (run_ended, overloaded).
        """
        refuse_cross_site(request, body="the body may be empty")
        run_id = request.path_param
        if not run_id or not _VALID_RUN_ID(run_id):
            raise Problem("not_found", "No run has this id.")
        actor = actor_fields(request)
        done = await self.canceller.cancel(run_id, actor.get("actor"))
        request.audit_details = {"state": done.state}
        self.log.warning(
            "operator_cancel_requested",
            run_id=done.id,
            client=done.client,
            workflow=done.workflow,
            state=done.state,
            **actor,
        )
        document = {
            "id": done.id,
            "client": done.client,
            "workflow": done.workflow,
            "status": done.status,
            "cancel": {"state": done.state, "detail": done.detail},
        }
        status = 200 if done.state == "cancelled" else 202
        return make_response(
            status, strict_json.write(document), JSON_CONTENT_TYPE, (("Location", f"/api/runs/{done.id}"),)
        )
