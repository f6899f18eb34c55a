"""Admin API for audit records: what was changed, by which operator."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from multidict import MultiMapping

from gateway.api.run_search import one_of, parse_text, parse_time
from gateway.audit.chain import shown
from gateway.audit.entry import RESULTS
from gateway.clock import format_rfc3339
from gateway.http.request import Request, Route
from gateway.http.response import Response, make_response
from gateway.json import strict_json
from gateway.problems import invalid_parameter
from gateway.runs.rendering import JSON_CONTENT_TYPE
from gateway.store.audit import AuditFilter, AuditHead, KeepsAudit

MAX_LIMIT = 500
ORDERS = ("newest", "oldest")
CURSOR_PATTERN = "^[0-9]{1,15}$"
_MAX_SHOWN_NAME = 100  # characters
_EQUAL = ("actor", "action", "target", "act")


@dataclass(frozen=True, slots=True)
class AuditHandlers:
    """Handlers for the operations port. StoreUnavailable becomes a problem in the pipeline."""

    store: KeepsAudit

    def routes(self) -> list[Route]:
        """Routes of the handlers."""
        return [Route("GET", "/api/audit", self.list_records, "api_audit")]

    async def list_records(self, request: Request) -> Response:
        """Handle `GET /api/audit`: records that meet all conditions of the query, and the ends of the chain.

        The ends are those before the records were read. `complete`: False if the page stopped at its bound.
        """
        audit_filter = parse_audit_filter(request.query)
        state = await self.store.audit.state()
        page = await self.store.audit.list(audit_filter)
        document = {
            "records": [shown(record) for record in page.records],
            "next": None if page.next is None else str(page.next),
            "complete": page.complete,
            "head": _head(state.head),
            "anchor": _head(state.anchor),
        }
        return make_response(200, strict_json.write(document), JSON_CONTENT_TYPE)


def parse_audit_filter(query: MultiMapping[str]) -> AuditFilter:
    """Return the filter of a query. Raises Problem for unknown parameters, and for values without a meaning."""
    values: dict[str, Any] = {}
    for name, text in query.items():
        if name not in _PARAMETERS:
            raise invalid_parameter(name[:_MAX_SHOWN_NAME], "is not a parameter of this list")
        if name in values:
            raise invalid_parameter(name, "must be given once")
        values[name] = _PARAMETERS[name](name, text)
    if "from" in values and "until" in values and values["from"] >= values["until"]:
        raise invalid_parameter("until", "must be later than from")
    return AuditFilter(
        {name: values[name] for name in (*_EQUAL, "result") if name in values},
        values.get("from"),
        values.get("until"),
        values.get("cursor"),
        ascending=values.get("order") == "oldest",
        limit=values.get("limit", 100),
    )


def _parse_result(name: str, text: str) -> str:
    return one_of(name, text, RESULTS)


def _parse_order(name: str, text: str) -> str:
    return one_of(name, text, ORDERS)


def _parse_time(name: str, text: str) -> str:
    try:
        return format_rfc3339(datetime.fromtimestamp(parse_time(name, text), UTC))
    except (ValueError, OverflowError):  # of the years before 1 and after 9999 in UTC
        raise invalid_parameter(name, "is not a time that a record can have") from None


def _parse_cursor(name: str, text: str) -> int:
    if not re.fullmatch(CURSOR_PATTERN, text):
        raise invalid_parameter(name, "must be `next` of an earlier response")
    return int(text)


def _parse_limit(name: str, text: str) -> int:
    if not (re.fullmatch("[0-9]{1,4}", text) and 1 <= int(text) <= MAX_LIMIT):
        raise invalid_parameter(name, f"must be a whole number from 1 to {MAX_LIMIT}")
    return int(text)


_PARAMETERS: Mapping[str, Callable[[str, str], object]] = {
    **dict.fromkeys(_EQUAL, parse_text),
    "result": _parse_result,
    "from": _parse_time,
    "until": _parse_time,
    "order": _parse_order,
    "cursor": _parse_cursor,
    "limit": _parse_limit,
}


def _head(head: AuditHead) -> dict[str, object]:
    return {"sequence": head.sequence, "hash": head.hash}
