"""Query of a report on usage, and its rendering as JSON and as CSV: the same on both ports."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from datetime import date, timedelta

from multidict import MultiMapping

from gateway.api.run_search import one_of, parse_text
from gateway.clock import Clock
from gateway.http.request import Request
from gateway.http.response import Response, make_response
from gateway.json import strict_json
from gateway.money import format_amount
from gateway.problems import Problem, invalid_parameter
from gateway.runs.rendering import JSON_CONTENT_TYPE
from gateway.runs.usage_report import (
    CERTAINTIES,
    MAX_GROUPS,
    OUTCOMES,
    PERIODS,
    VALUES,
    WITH_TAG,
    Group,
    TooManyGroups,
    UsageQuery,
    report,
    today,
    total,
)
from gateway.safe_csv import csv_lines
from gateway.store.usage import UsageStore

CSV_CONTENT_TYPE = "text/csv; charset=utf-8"
MAX_DAYS = 400
"""Days of a report for operators."""
MAX_CLIENT_DAYS = 93
"""Days of a report for a client."""
DEFAULT_DAYS = 30
MAX_CONDITIONS = 50
"""Values of all conditions together."""
DAY_PATTERN = "^[0-9]{4}-[0-9]{2}-[0-9]{2}$"
FORMATS = ("json", "csv")
_VARY = (("Vary", "Accept"),)
_DAY_DETAIL = "must be a day such as 2026-11-21, in UTC"
_CHOICES = {"outcome": OUTCOMES, "certainty": CERTAINTIES}


def parse_usage_query(
    query: MultiMapping[str], clock: Clock, *, client: str | None = None, team: str | None = None
) -> UsageQuery:
    """Return the report that a query asks for. `client`: that which asks for its own; `team`: of the viewer.

    Raises Problem for parameters without a meaning, and for another team.
    """
    days: dict[str, date] = {}
    group_by: tuple[str, ...] = ("day",)
    conditions: dict[str, set[str]] = {}
    for name, text in query.items():
        if name in {"from", "to", "group_by", "format"} and len(query.getall(name)) > 1:
            raise invalid_parameter(name, "must be given once")
        if name in {"from", "to"}:
            days[name] = _parse_day(name, text)
        elif name == "group_by":
            group_by = _parse_group_by(text)
        elif name == "format":
            one_of(name, text, FORMATS)
        elif name in VALUES and not (name == "client" and client is not None):
            conditions.setdefault(name, set()).add(_parse_value(name, text))
        else:
            raise invalid_parameter(name[:100], "is not a parameter of this report")
    if sum(map(len, conditions.values())) > MAX_CONDITIONS:
        raise invalid_parameter(next(iter(conditions)), f"at most {MAX_CONDITIONS} values are possible")
    if client is not None:
        conditions["client"] = {client}
    if team is not None and conditions.setdefault("team", {team}) != {team}:
        raise Problem("forbidden", "This key may read the usage of its own team only.")
    _check_tags(group_by, conditions)
    first, last = _range(days, today(clock), MAX_DAYS if client is None else MAX_CLIENT_DAYS)
    return UsageQuery(first, last, group_by, {name: frozenset(texts) for name, texts in conditions.items()})


async def answer_usage(store: UsageStore, request: Request, query: UsageQuery, clock: Clock, currency: str) -> Response:
    """Answer a request for a report. Raises Problem, StoreUnavailable."""
    try:
        groups = await report(store, query, clock)
    except TooManyGroups:
        detail = f"makes more than {MAX_GROUPS} rows: ask for fewer days, or group by less"
        raise invalid_parameter("group_by", detail) from None
    if wants_csv(request):
        return make_response(200, usage_csv(query.group_by, groups).encode(), CSV_CONTENT_TYPE, _VARY)
    document = {
        "from": query.first.isoformat(),
        "to": query.last.isoformat(),
        "currency": currency,
        "group_by": query.group_by,
        "rows": [{**dict(zip(query.group_by, g.values, strict=True)), **_sums(g)} for g in groups],
        "total": _sums(total(groups)),
    }
    return make_response(200, strict_json.write(document), JSON_CONTENT_TYPE, _VARY)


def wants_csv(request: Request) -> bool:
    """Return whether the report is to be CSV: because of `format`, else because of `Accept`."""
    if "format" in request.query:
        return request.query["format"] == "csv"
    accepted = request.headers.get("Accept", "").partition(";")[0].partition(",")[0]
    return accepted.strip().lower() == "text/csv"


def usage_csv(columns: Sequence[str], groups: Sequence[Group]) -> str:
    """Return a report as CSV, with a line of names in front."""
    rows = ((*g.values, g.runs, format_amount(g.spent), format_amount(g.unknown)) for g in groups)
    return csv_lines([(*columns, "runs", "spent", "unknown"), *rows])


def _sums(group: Group) -> dict[str, object]:
    return {"runs": group.runs, "spent": format_amount(group.spent), "unknown": format_amount(group.unknown)}


def _parse_day(name: str, text: str) -> date:
    if not re.fullmatch(DAY_PATTERN, text, re.ASCII):
        raise invalid_parameter(name, _DAY_DETAIL)
    try:
        day = date.fromisoformat(text)
    except ValueError:
        raise invalid_parameter(name, _DAY_DETAIL) from None
    if not 1970 <= day.year < 9999:
        raise invalid_parameter(name, _DAY_DETAIL)
    return day


def _parse_group_by(text: str) -> tuple[str, ...]:
    names = tuple(text.split(",")) if text else ()
    known = (*PERIODS, *VALUES)
    if len(names) > len(known) or len(set(names)) < len(names) or not set(names) <= set(known):
        raise invalid_parameter("group_by", "must be different names of " + ", ".join(known) + ", with commas")
    return names


def _parse_value(name: str, text: str) -> str:
    if name in _CHOICES:
        return one_of(name, text, _CHOICES[name])
    if text == "" and name in {"team", "key"}:
        return ""
    return parse_text(name, text)


def _check_tags(group_by: Collection[str], conditions: Collection[str]) -> None:
    used = {*group_by, *conditions}
    excluded = sorted(used.difference(PERIODS, WITH_TAG))
    if "tag" in used and excluded:
        raise invalid_parameter(
            "tag", f"cannot be combined with {', '.join(excluded)}, only with {', '.join(WITH_TAG[:-1])} and periods"
        )


def _range(days: dict[str, date], now: date, longest: int) -> tuple[date, date]:
    last = days.get("to", max(now, days.get("from", now)))
    first = days.get("from", last - timedelta(days=DEFAULT_DAYS - 1) if last.year > 1970 else last)
    if first > last:
        raise invalid_parameter("to", "must not be before from")
    if (last - first).days >= longest:
        raise invalid_parameter("from", f"the report would have more than {longest} days")
    return first, last
