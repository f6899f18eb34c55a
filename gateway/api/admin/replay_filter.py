"""Filter of `POST /api/replays`: the conditions of `GET /api/runs`, without those on pages."""

from __future__ import annotations

from multidict import MultiMapping

from gateway.api.admin.run_search import parse_run_query
from gateway.problems import FieldError, Problem, invalid_body
from gateway.store.run_filter import RunFilter

_NO_CONDITIONS = ("limit", "cursor", "idempotency_key")


def parse_filter(query: MultiMapping[str]) -> RunFilter:
    """Return the runs that the conditions select. Raises Problem for those that are unknown or have no meaning."""
    for name in _NO_CONDITIONS:
        if name in query:
            raise invalid_body(FieldError(f"/filter/{name}", "is not a condition of a replay"))
    try:
        return parse_run_query(query).run_filter
    except Problem as problem:
        errors = (FieldError("/filter/" + each.pointer.removeprefix("?"), each.detail) for each in problem.errors)
        raise invalid_body(*errors) from None
