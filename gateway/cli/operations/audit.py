"""`runward audit list` and `export`: audit records of a running gateway."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import typer

from gateway.cli.errors import CliError
from gateway.cli.operations.output import print_json, print_table
from gateway.cli.operations.paging import iter_list

if TYPE_CHECKING:
    from gateway.cli.operations.client import OpsClient, Query
    from providers.contract import JsonValue

_COLUMNS = ("SEQUENCE", "TIME", "ACTOR", "ACTION", "TARGET", "RESULT", "ADDRESS")
_PAGE = 500


def list_records(client: OpsClient, conditions: Mapping[str, str | None], limit: int, *, as_json: bool) -> None:
    """Print a table of records, or a JSON line for each. Raises CliError."""
    query: Query = {**conditions, "limit": min(limit + 1, _PAGE)}
    listed = iter_list(
        client, "api", "audit", member="records", cursor="cursor", limit=limit, more="raise --limit", query=query
    )
    records = [each for each in listed if isinstance(each, dict)]
    if as_json:
        for record in records:
            print_json(record)
    elif records:
        print_table(_COLUMNS, [_row(each) for each in without_begun(records)])
    else:
        typer.echo("no such records", err=True)


def _row(record: Mapping[str, JsonValue]) -> list[JsonValue]:
    code, result = record.get("code"), record.get("result")
    members = [record.get(name) for name in ("sequence", "time", "actor", "action", "target")]
    return [*members, f"{result} ({code})" if code else result, record.get("address")]


def without_begun(records: list[dict[str, JsonValue]]) -> Iterator[dict[str, JsonValue]]:
    """Yield the records, newest first, without those of beginnings whose end was yielded."""
    ended = set[str]()
    for record in records:
        act = str(record.get("act"))
        if record.get("result") != "begun" or act not in ended:
            yield record
        ended.add(act)


def export_records(client: OpsClient, after: int) -> None:
    """Print the records after a sequence number as JSON lines, oldest first. Raises CliError."""
    last = None
    for page in iter_pages(client, after):
        for record in page.records:
            print_json(record)
            last = record
    if last is not None:
        typer.echo(f"head: {last.get('sequence')}:{last.get('hash')}", err=True)
    else:
        typer.echo("no further records", err=True)


class ChainPage:
    """A page of the chain, oldest first, and the ends of the chain before it was read."""

    def __init__(self, document: Mapping[str, JsonValue]) -> None:
        records, self.next = document.get("records"), document.get("next")
        self.records = [each for each in records if isinstance(each, dict)] if isinstance(records, list) else []
        self.head, self.anchor = (document.get(name) for name in ("head", "anchor"))


def iter_pages(client: OpsClient, after: int) -> Iterator[ChainPage]:
    """Yield all records after a sequence number, oldest first, page by page.

    A page begins with the last sequence number of the page before, so that two records with one number are both read.
    """
    known: set[JsonValue] = set()
    while True:
        query: Query = {"order": "oldest", "limit": _PAGE, "cursor": str(after) if after else None}
        page = ChainPage(client.get("api", "audit", query=query))
        read, page.records = page.records, [each for each in page.records if each.get("hash") not in known]
        yield page
        last = page.next
        if not isinstance(last, str):
            return
        if not last.isdecimal() or int(last) < after:
            raise CliError("the gateway's list does not end")
        known = {each.get("hash") for each in read if each.get("sequence") == int(last)}
        after = int(last) - 1 if page.records else int(last)
