"""Mapping of typed errors to problem documents (RFC 9457): the one place at the API's border that makes them."""

from __future__ import annotations

import math

from gateway.errors import AcceptanceUnknown, GatewayError, ReplayRefused, RunError, RunFailed
from gateway.json import strict_json
from gateway.problems import CONTENT_TYPE, Problem
from gateway.runs import rendering
from gateway.runs.model import RunRecord
from gateway.store.records import StoredResponse


def problem_from_error(error: GatewayError) -> Problem:
    """Return the problem of an error; its `__cause__` is the error's own, for the log."""
    extra: dict[str, object] = {}
    if isinstance(error, RunError):
        extra = _run_members(error)
    elif isinstance(error, ReplayRefused):
        extra = {"run_id": error.run_id, "run_status": error.run_status}
    problem = Problem(error.code, error.detail, error.retry_after, headers=error.headers, extra=extra)
    problem.__cause__ = error.__cause__
    return problem


def final_response(run: RunRecord, error: RunError | None, request_id: str) -> StoredResponse:
    """Return the response to the `POST /run` of a run that has ended, as its Idempotency-Key keeps it."""
    if error is None:
        headers = (("Content-Type", rendering.JSON_CONTENT_TYPE), *run.limit_headers)
        return StoredResponse(200, headers, strict_json.write(rendering.run_document(run)))
    problem = problem_from_error(error)
    fields = [("Content-Type", CONTENT_TYPE), *problem.headers]
    if problem.retry_after is not None:
        fields.append(("Retry-After", str(math.ceil(problem.retry_after))))
    return StoredResponse(problem.status, tuple(fields), problem.document(request_id))


def _run_members(error: RunError) -> dict[str, object]:
    """Return the members of the document that describe the run."""
    members: dict[str, object] = {"outcome": error.ending}
    if isinstance(error, RunFailed) and error.shows_outputs:
        members["outputs"] = error.outputs
    if isinstance(error, AcceptanceUnknown) and error.same_key_is_safe:
        members["retryable"] = True
    run = error.run
    if run is not None:
        facts = {
            "run_id": run.run_id,
            "provider": run.provider,
            "attempts": run.attempts,
            "provider_run_id": run.provider_run_id,
        }
        members |= {name: value for name, value in facts.items() if value is not None}
    return members
