"""Filter of `POST /api/replays`: the conditions of a search by operators, without those on pages."""

from __future__ import annotations

from dataclasses import replace

from multidict import MultiDict, MultiMapping

from gateway.api.run_search import parse_run_filter
from gateway.problems import FieldError, Problem, invalid_body
from gateway.store.run_filter import RunFilter

_PAGE_PARAMETERS = ("limit", "cursor")


def parse_filter(query: MultiMapping[str]) -> RunFilter:
    """Return the runs that the conditions select. Raises Problem for those that are unknown or have no meaning."""
    for name in _PAGE_PARAMETERS:
        if name in query:
            raise invalid_body(FieldError(f"/filter/{name}", "is not a condition"))
    conditions = MultiDict(query)
    clients = conditions.popall("client", ())
    if len(clients) > 1:
        raise invalid_body(FieldError("/filter/client", "must be given once"))
    try:
        found = parse_run_filter(conditions, "")
    except Problem as problem:
        errors = (FieldError("/filter/" + each.pointer.removeprefix("?"), each.detail) for each in problem.errors)
        raise invalid_body(*errors) from None
    return replace(found, client=clients[0] if clients else None)
