"""`runward usage`: runs and what they cost, as a table, JSON or CSV, and as an export in the form of FOCUS."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import date, timedelta
from typing import TYPE_CHECKING

import typer

from gateway.cli.errors import CliError, sanitize_for_terminal
from gateway.cli.operations.client import OpsClient, Query
from gateway.cli.operations.focus import FOCUS_COLUMNS, GROUP_BY, focus_rows, is_iso_currency
from gateway.cli.operations.output import print_json, print_table
from gateway.safe_csv import csv_lines

if TYPE_CHECKING:
    from providers.contract import JsonValue

USAGE = ("api", "usage")
"""Segments of the path of the report."""
_SUMS = ("runs", "spent", "unknown")
_MAX_DAYS = 400


def show_usage(client: OpsClient, query: Query, *, as_json: bool, as_csv: bool) -> None:
    """Print a report: a table with its total, a JSON document, or CSV. Raises CliError."""
    if as_json and as_csv:
        raise CliError("give --json or --csv, not both")
    document = client.get(*USAGE, query=query)
    if as_json:
        print_json(document)
        return
    columns = [str(name) for name in _list(document, "group_by")]
    rows = [[row.get(name) for name in (*columns, *_SUMS)] for row in _rows(document)]
    if as_csv:
        typer.echo(csv_lines([(*columns, *_SUMS), *rows]), nl=False)
        return
    total = document.get("total")
    if isinstance(total, dict) and len(rows) != 1:
        rows.append([*("total" if not number else None for number in range(len(columns))), *map(total.get, _SUMS)])
    print_table([name.upper() for name in (*columns, *_SUMS)], rows)


def export_focus(client: OpsClient, first: str | None, last: str | None) -> None:
    """Print the usage of the days from `first` to `last`, both included, as CSV in the form of FOCUS. Raises CliError.

    One request for each day, so that no report is too large.
    """
    typer.echo(csv_lines([FOCUS_COLUMNS]), nl=False)
    currency = ""
    for day in _days(client, first, last):
        document = client.get(*USAGE, query={"from": day, "to": day, "group_by": ",".join(GROUP_BY)})
        currency = str(document.get("currency"))
        typer.echo(csv_lines(focus_rows(_rows(document), currency)), nl=False)
    if not is_iso_currency(currency):
        name = sanitize_for_terminal(currency)
        typer.echo(f"FOCUS needs a code of ISO 4217 as the currency, not {name}: set usage.currency", err=True)


def _days(client: OpsClient, first: str | None, last: str | None) -> Iterator[str]:
    """Yield days; the gateway knows which are the last thirty, and checks those that are given."""
    document = client.get(*USAGE, query={"from": first, "to": last, "group_by": ""})
    try:
        day, end = date.fromisoformat(str(document.get("from"))), date.fromisoformat(str(document.get("to")))
    except ValueError:
        raise CliError("the gateway sent a day that cannot be read") from None
    for number in range(min((end - day).days + 1, _MAX_DAYS)):
        yield (day + timedelta(days=number)).isoformat()


def _rows(document: Mapping[str, JsonValue]) -> list[dict[str, JsonValue]]:
    return [row for row in _list(document, "rows") if isinstance(row, dict)]


def _list(document: Mapping[str, JsonValue], name: str) -> Sequence[JsonValue]:
    value = document.get(name)
    return value if isinstance(value, list) else []
