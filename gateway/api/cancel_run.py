"""Handler of `POST /runs/{id}/cancel`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from gateway.errors import RunNotFound
from gateway.http.body import hold_stored
from gateway.http.request import Request
from gateway.http.response import Response, make_response
from gateway.json import strict_json
from gateway.problems import Problem
from gateway.runs import rendering
from gateway.runs.durable.cancellation import RunCancellation
from gateway.runs.durable.codec import is_cancelled
from gateway.runs.durable.provider_cancellation import StopState
from gateway.runs.run_reader import RunReader
from gateway.store.records import Phase, RunOverview

STOP_DETAILS: Mapping[StopState, str] = {
    "too_late": "A start was sent, or is being sent, and the provider cannot stop the run: its end will be recorded.",
    "not_yet": "The provider has not acknowledged the start yet, and is asked to stop the run once it has: repeat this "
    "request to be sure.",
    "stopping": "The provider has accepted the request to stop the run: its end will be recorded as it reports.",
    "not_stopped": "The provider was asked to stop the run and has not accepted the request, which may be repeated. "
    "The run may go on: its end will be recorded.",
}
"""Explanations of what a request to stop a started run could do."""


@dataclass(frozen=True, slots=True)
class CancelRunHandler:
    """Handler for the client's own stored runs. StoreUnavailable becomes the problem `store_unavailable`."""

    cancellation: RunCancellation
    reader: RunReader

    async def cancel(self, request: Request) -> Response:
        """Cancel a run: 200 if no start was and none will be sent, 202 if one may have been sent.

        Then the provider is asked to stop the run, where it can; the response says what came of it.

        Raises RunNotFound, Problem (run_ended, overloaded).
        """
        run = await self.cancellation.cancel(request.client_name, request.path_param)
        cancelled = is_cancelled(run)
        if run.phase is Phase.DONE and not cancelled:
            raise run_ended(run)
        stop = None if cancelled else await self.cancellation.at_provider.stop(run)
        view = await self.reader.view(run)
        if view is None:
            raise RunNotFound("The client has no run with this id.")
        hold_stored(request, len(view))
        if stop is None:
            return make_response(200, view, rendering.JSON_CONTENT_TYPE)
        body = view[:-1] + b',"cancel":%b}' % strict_json.write({"state": stop, "detail": STOP_DETAILS[stop]})
        return make_response(202, body, rendering.JSON_CONTENT_TYPE, (("Location", f"/runs/{run.id}"),))


def run_ended(run: RunOverview) -> Problem:
    """Return the problem of a run that cannot be cancelled any more."""
    detail = f"The run cannot be cancelled: it has ended with the status {run.status}."
    return Problem("run_ended", detail, extra={"run_id": run.id, "run_status": run.status})
