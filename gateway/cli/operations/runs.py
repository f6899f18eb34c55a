"""`runward runs list` and `runward runs show`: runs of all clients, and the timeline of one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from itertools import islice
from typing import TYPE_CHECKING

import typer

from gateway.cli.errors import CliError, sanitize_for_terminal
from gateway.cli.operations.client import OpsClient, OpsProblem, Query
from gateway.cli.operations.output import print_json, print_table
from gateway.cli.operations.paging import iter_list

if TYPE_CHECKING:
    from providers.contract import JsonValue

RUNS = ("api", "runs")
"""Segments of the path of the list."""
MAX_PAGE = 100
_MORE = "raise --limit, or give --all"
_COLUMNS = ("CREATED", "ID", "STATUS", "CODE", "CLIENT", "WORKFLOW", "PROVIDER", "SECONDS", "ATTEMPTS", "ACTIVITY")
_TABLE_ROWS = 1000  # a longer list is several tables, so that it is not held in memory
_FACTS = (
    *("id", "status", "client", "api", "workflow", "label", "version", "provider", "provider_run_id", "attempts"),
    *("created_at", "finished_at", "duration_ms", "warning", "kept"),
)


def list_runs(client: OpsClient, query: Query, limit: int, *, as_json: bool) -> None:
    """Print at most `limit` runs: as tables, or each as a JSON line. Raises CliError."""
    runs = iter_runs(client, query, limit)
    if as_json:
        for run in runs:
            print_json(run)
        return
    printed = False
    while rows := [_row(run) for run in islice(runs, _TABLE_ROWS)]:
        print_table(_COLUMNS, rows)
        printed = True
    if not printed:
        print_table(_COLUMNS, ())


def show_run(client: OpsClient, run_id: str, *, as_json: bool) -> None:
    """Print facts about a run, and its timeline. Raises CliError: exit code 1 if no such run is recorded."""
    try:
        run = client.get(*RUNS, run_id)
    except OpsProblem as problem:
        if problem.code != "not_found":
            raise
        raise CliError(f"no run {sanitize_for_terminal(run_id)} is recorded", exit_code=1) from None
    if as_json:
        print_json(run)
        return
    facts = [(name, text) for name, text in _facts(run) if text]
    width = max(len(name) for name, _ in facts)
    for name, text in facts:
        typer.echo(f"{name.ljust(width)}  {one_line(text)}")
    timeline = run.get("timeline")
    events = [event for event in timeline if isinstance(event, dict)] if isinstance(timeline, list) else []
    typer.echo("")
    nothing = "no timeline is recorded" if run.get("finished_at") else "no event is recorded yet"
    typer.echo("timeline: seconds since the creation" if events else nothing)
    for event in events:
        offset = (_time(event.get("at")) - _time(run.get("created_at"))).total_seconds()
        typer.echo(one_line(f"{offset:+11.3f}  {event.get('event')!s:<18}  {_describe(event)}").rstrip())


def iter_runs(client: OpsClient, query: Query, limit: int) -> Iterator[dict[str, JsonValue]]:
    """Yield at most `limit` runs of a list, newest first. Raises CliError."""
    page = {"limit": min(limit + 1, MAX_PAGE), **query}
    elements = iter_list(client, *RUNS, member="runs", cursor="cursor", limit=limit, more=_MORE, query=page)
    return (run for run in elements if isinstance(run, dict))


def error_code(run: Mapping[str, JsonValue]) -> JsonValue:
    """Return the code of the error of a run, or None."""
    error = run.get("error")
    return error.get("code") if isinstance(error, dict) else None


def seconds_of(run: Mapping[str, JsonValue]) -> float | None:
    """Return how long a run took; None if it has not ended."""
    milliseconds = run.get("duration_ms")
    return milliseconds / 1000 if isinstance(milliseconds, (int, float)) else None


def activity_of(run: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    """Return the activity of a run, empty without one."""
    activity = run.get("activity")
    return activity if isinstance(activity, dict) else {}


def one_line(text: str) -> str:
    """Return a text without control characters and line feeds."""
    return sanitize_for_terminal(text).replace("\n", " ").replace("\t", " ")


def _row(run: Mapping[str, JsonValue]) -> Sequence[object]:
    seconds, activity = seconds_of(run), activity_of(run)
    return (
        *(run.get(name) for name in ("created_at", "id", "status")),
        error_code(run),
        *(run.get(name) for name in ("client", "workflow", "provider")),
        None if seconds is None else f"{seconds:.3f}",
        run.get("attempts"),
        _activity_text(activity),
    )


def _activity_text(activity: Mapping[str, JsonValue]) -> str:
    parts = [str(activity["state"])] if "state" in activity else []
    if "waiting_for" in activity:
        parts.append(f"waits for {activity['waiting_for']}")
    if "polls" in activity:
        parts.append(f"polls {activity['polls']}")
    return ", ".join([*parts, *(["retrying"] if activity.get("retrying") else [])])


def _facts(run: Mapping[str, JsonValue]) -> Iterator[tuple[str, str]]:
    """Yield names and texts; a text is empty if there is nothing to say."""
    for name in _FACTS:
        value = run.get(name)
        yield name, "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    error = run.get("error")
    if isinstance(error, dict):
        yield "error", f"{error.get('code')}: {error.get('detail')}" if error.get("detail") else str(error.get("code"))
    yield "activity", _activity_text(activity_of(run))
    yield "next poll", str(activity_of(run).get("next_poll_at") or "")
    callback = run.get("callback")
    yield "callback", str(callback.get("state")) if isinstance(callback, dict) else ""
    tags = run.get("tags")
    yield "tags", " ".join(map(str, tags)) if isinstance(tags, list) else ""
    waits = run.get("waits")
    seconds_by_cause = waits.items() if isinstance(waits, dict) else ()
    yield "waits", ", ".join(f"{cause} {seconds} s" for cause, seconds in seconds_by_cause)
    for name in ("metadata", "judgement"):
        yield name, _pairs(run.get(name))


def _pairs(value: JsonValue) -> str:
    return " ".join(f"{name}={each}" for name, each in value.items()) if isinstance(value, dict) else ""


def _describe(event: Mapping[str, JsonValue]) -> str:
    """Return the values of an event in words; those of an unknown one by name."""
    rest = {name: value for name, value in event.items() if name not in {"at", "event"}}
    took = f" in {rest.pop('seconds')} s" if "seconds" in rest else ""
    match event.get("event"):
        case "waited":
            return f"for {rest.pop('for', 'something')}{took.replace(' in', ',', 1)}"
        case "called":
            result = rest.get("status", rest.get("cause"))
            times = f", {rest['count']} times" if "count" in rest else ""
            sent = "" if rest.get("sent") == "yes" else f", sent: {rest.get('sent')}"
            reused = ", on a reused connection" if rest.get("connection_reused") else ""
            return f"{rest.get('operation')}: {result}{took}{times}{sent}{reused}"
        case "ended":
            return str(rest.get("status")) + (f", {rest['code']}" if "code" in rest else "")
        case "callback_attempted":
            return f"attempt {rest.get('attempt')}: {rest.get('result')}{took}"
        case _:
            return _pairs(rest) + took


def _time(value: JsonValue) -> datetime:
    try:
        return datetime.fromisoformat(str(value))
    except ValueError:
        raise CliError("the gateway sent a time that cannot be read") from None
