"""Labels and versions that a client asks for: honoured, or refused, and never ignored."""

from __future__ import annotations

from gateway.problems import Pointer, Problem
from gateway.runs.catalog import Workflow
from gateway.runs.names import NO_PIN, Pin

OWN = ("/label", "/version")
"""What they are called in the body of `POST /run`."""


def check_pin(workflow: Workflow, pin: Pin, named: tuple[str, str] = OWN) -> None:
    """Refuse a label or version that would be ignored. One that the configuration pins is that very one.

    Raises Problem("invalid_request"), which points at one of `named`: JSON pointers to the label, and to the version.
    """
    if pin in {NO_PIN, (workflow.label, workflow.version)}:
        return
    if not workflow.provider.adapter.versions:
        why = "this workflow's provider has no versions"
    elif workflow.pinned:
        why = "the configuration of this workflow pins another"
    else:
        return
    where = named[0] if pin[0] is not None else named[1]
    raise Problem("invalid_request", "1 thing(s) are wrong.", errors=(Pointer(where, why),))
