"""Views of runs for tests that have no reader."""

from __future__ import annotations

from gateway.errors import RunError
from gateway.json import strict_json
from gateway.runs import rendering
from gateway.runs.durable.codec import stored_labels
from gateway.runs.model import RunRecord
from gateway.store.records import StoredRun


def finished_document(run: RunRecord, error: RunError | None) -> bytes:
    """Return the document of a run that has ended."""
    return strict_json.write(rendering.finished_run_document(run, error))


def stored_run_view(run: StoredRun) -> bytes:
    """Return what `GET /runs/{id}` shows."""
    if run.document is not None:
        return rendering.finished_run_view(run.overview, run.document)
    return rendering.unfinished_run_view(run.overview, stored_labels(run))
