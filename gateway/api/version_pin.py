"""Labels and versions that a client asks for: honoured, or refused, and never ignored."""

from __future__ import annotations

from gateway.problems import FieldError, Problem
from gateway.runs.catalog import Workflow
from gateway.runs.workflow_aliases import NO_PIN, VersionPin
from providers.declarations import accepts_release

RUN_POINTERS = ("/label", "/version")
"""What they are called in the body of `POST /run`."""


def check_pin(workflow: Workflow, pin: VersionPin, pointers: tuple[str, str] = RUN_POINTERS) -> None:
    """Refuse a label or version that would be ignored. One that the configuration pins is that very one.

    Raises Problem("invalid_request"), which points at one of `named`: JSON pointers to the label, and to the version.
    """
    if pin in {NO_PIN, (workflow.label, workflow.version)}:
        return
    adapter = workflow.provider.adapter
    if not adapter.supports_versions:
        reason = "this workflow's provider has no versions"
    elif not accepts_release(adapter, *pin):
        reason = f"this workflow's provider has no such {'labels' if pin[0] is not None else 'versions'}"
    elif workflow.pinned:
        reason = "the configuration of this workflow pins another"
    else:
        return
    pointer = pointers[0] if pin[0] is not None else pointers[1]
    raise Problem("invalid_request", "1 thing(s) are wrong.", errors=(FieldError(pointer, reason),))
