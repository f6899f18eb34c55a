"""Rendering of runs: JSON documents of runs in progress and finished runs, and the 202 response."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, cast

from gateway.clock import format_rfc3339
from gateway.errors import RunError
from gateway.json import strict_json
from gateway.runs.durable.codec import (
    decode_details,
    labels_of,
    public_details,
    stored_labels,
    stored_spec,
)
from gateway.runs.model import RunRecord
from gateway.store.records import Phase, RunOverview, StoredResponse, StoredRun
from providers.contract import JsonValue

JSON_CONTENT_TYPE = "application/json"
_RAW_ERRORS = "raw_errors"
_RAW_ERRORS_START = b'{"raw_errors":'  # of a document: no other document starts so
_FOLLOWED_WARNING = "The deadline passed; the run continues at the provider, which is polled until the run has ended."


def run_document(run: RunRecord) -> dict[str, object]:
    """Return the members of a finished run, as in the response to `POST /run` and in a callback."""
    spec = run.spec
    members: dict[str, object] = {
        "id": run.id,
        "status": run.status,
        "workflow": spec.workflow,
        "provider": run.provider,
        "output": run.output,
    }
    if spec.return_all_outputs:
        members["outputs"] = run.outputs
    members["warning"] = run.warning
    members["attempts"] = run.attempts
    members["provider_run_id"] = run.provider_run_id
    members |= labels_of(spec.metadata, spec.tags, spec.replay_of)
    if run.priced:
        members["cost"] = run.cost().document()
    members["created_at"] = format_rfc3339(run.created_at)
    members["finished_at"] = run.finished_at and format_rfc3339(run.finished_at)
    members["duration_ms"] = round(run.duration * 1000)
    return members


def finished_run_document(run: RunRecord, error: RunError | None) -> dict[str, object]:
    """Return the members of a finished run as it is stored: for `GET /runs/{id}`, with `error` if it did not succeed.

    A run of PromptLayer's API has the errors of its nodes as the provider sent them too, as the first member, which
    `finished_run_view` leaves out.
    """
    members = run_document(run)
    if run.raw_errors and run.spec.api == "promptlayer":
        members = {_RAW_ERRORS: run.raw_errors, **members}
    if error is not None:
        members["error"] = {"code": error.code, "detail": error.detail or None}
    return members


def _unfinished_run(run: RunOverview, labels: Mapping[str, object]) -> dict[str, object]:
    """Return the members of a run in progress.

    Its status is `unknown` if its deadline has passed and it is polled on; unlike after the end, `finished_at` is null.
    """
    members = _queued_run(run.id, run.workflow, run.provider, labels, format_time(run.created_at))
    return members | {
        "status": run.status,
        "warning": _FOLLOWED_WARNING if run.status == "unknown" else None,
        "attempts": run.attempts,
        "provider_run_id": run.provider_run_id,
    }


def _queued_run(
    run_id: str, workflow: str, provider: str, labels: Mapping[str, object], created_at: str
) -> dict[str, object]:
    """Return the members of a run of which nothing was sent. `labels`: as `labels_of`."""
    return {
        "id": run_id,
        "status": "queued",
        "workflow": workflow,
        "provider": provider,
        "output": None,
        "warning": None,
        "attempts": 0,
        "provider_run_id": None,
        **labels,
        "created_at": created_at,
        "finished_at": None,
        "duration_ms": None,
    }


def requested_provider(run: StoredRun) -> str:
    """Return the provider of the requested workflow, even if a fallback executes the run."""
    provider = stored_spec(run).get("provider")
    return provider if isinstance(provider, str) else run.provider


def is_synchronous(run: StoredRun) -> bool:
    """Return whether the client of a stored run waits for the response."""
    return stored_spec(run).get("waits") is not False


def render_accepted(run: StoredRun) -> StoredResponse:
    """Return the 202 response to the `POST /run` of a background run, the same bytes at every phase of the run."""
    labels = stored_labels(run)
    return _accepted(_queued_run(run.id, run.workflow, requested_provider(run), labels, format_time(run.created_at)))


def render_new(run: RunRecord) -> StoredResponse:
    """Return what `render_accepted` returns, for a run that has not been executed yet."""
    created_at = format_rfc3339(run.created_at)
    labels = labels_of(run.spec.metadata, run.spec.tags, run.spec.replay_of)
    return _accepted(_queued_run(run.id, run.spec.workflow, run.provider, labels, created_at))


def _accepted(queued_run: dict[str, object]) -> StoredResponse:
    fields = (("Content-Type", JSON_CONTENT_TYPE), ("Location", f"/runs/{queued_run['id']}"))
    return StoredResponse(202, fields, strict_json.write(queued_run))


def finished_run_view(run: RunOverview, document: bytes) -> bytes:
    """Render a run that has ended for `GET /runs/{id}`, with the state of its callback."""
    document = _without_raw_errors(document)
    if run.callback_url is None:
        return document
    return document[:-1] + b',"callback":%b}' % strict_json.write(_callback_state(run))


def unfinished_run_view(run: RunOverview, labels: Mapping[str, object]) -> bytes:
    """Render a run in progress for `GET /runs/{id}`, with its activity, and the state of its callback.

    `labels`: as `labels_of`.
    """
    activity = activity_view(run)
    members = _with_callback(_unfinished_run(run, labels), run)
    return strict_json.write(members if activity is None else {**members, "activity": activity})


def run_list_item(run: RunOverview) -> bytes:
    """Render a run for `GET /runs`: without its output, and with null for metadata that are large."""
    return strict_json.write(list_members(run, decode_details(run)))


def recorded_run_view(run: RunOverview) -> bytes:
    """Render a run for `GET /runs/{id}` that ended without being durable, and whose output was not kept."""
    details = decode_details(run)
    members = {**_record_members(run, details), "output_kept": False}
    if details.get("content") == "too_large":
        members["content"] = "too_large"
    return strict_json.write(members)


def list_members(run: RunOverview, details: Mapping[str, JsonValue]) -> dict[str, object]:
    """Return the members of a run in a list, with the state of its callback. `details`: those of the run, decoded."""
    members = _record_members(run, details)
    del members["output"]
    return _with_callback(members, run)


def activity_view(run: RunOverview) -> dict[str, object] | None:
    """Return what an unfinished run does or waits for, with its times as RFC 3339, if the store has it."""
    activity = activity_of(run)
    if not activity or run.phase is Phase.DONE:
        return None
    if "next_poll_at" in activity:
        activity["next_poll_at"] = format_time(activity["next_poll_at"])
    if "nodes" in activity:
        nodes = activity["nodes"].items()
        activity["nodes"] = {name: {**change, "at": format_time(change["at"])} for name, change in nodes}
    return activity


def activity_of(run: RunOverview) -> dict[str, Any]:
    """Return the activity of an unfinished run as the store has it; empty if there is none."""
    return read_object(run.activity) or {}


def read_object(data: bytes | None) -> dict[str, Any] | None:
    """Return a stored JSON object; None if there is none, or it cannot be read."""
    try:
        value = None if data is None else strict_json.read(data)
    except strict_json.NotJson:
        return None
    return value if isinstance(value, dict) else None


def _record_members(run: RunOverview, details: Mapping[str, JsonValue]) -> dict[str, object]:
    members = _unfinished_run(run, {"metadata": None})
    if run.finished_at is not None:
        milliseconds = round((run.finished_at - run.created_at) * 1000)
        members |= {"warning": None, "finished_at": format_time(run.finished_at), "duration_ms": milliseconds}
    return {**members, **public_details(details)}


def _with_callback(members: dict[str, object], run: RunOverview) -> dict[str, object]:
    return members if run.callback_url is None else {**members, "callback": _callback_state(run)}


def _callback_state(run: RunOverview) -> dict[str, object]:
    return {"state": run.callback_state or "pending"}


def format_time(at: float) -> str:
    """Return a time in seconds since 1970 as RFC 3339."""
    return format_rfc3339(datetime.fromtimestamp(at, UTC))


def _without_raw_errors(document: bytes) -> bytes:
    if not document.startswith(_RAW_ERRORS_START):
        return document
    members = cast("dict[str, object]", strict_json.read_stored(document))
    del members[_RAW_ERRORS]
    return strict_json.write(members)


def run_page(runs: Sequence[bytes], next_cursor: str | None, *, complete: bool) -> bytes:
    """Render a page of runs, with the cursor of the next page. `complete`: False if the search stopped early."""
    members = strict_json.write(next_cursor), strict_json.write(complete)
    return b'{"runs":[%b],"next":%b,"complete":%b}' % (b",".join(runs), *members)
