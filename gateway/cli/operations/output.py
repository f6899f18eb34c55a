"""Output of commands for people and for programs: tables, JSON documents, JSON lines."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import typer

from gateway.cli.errors import sanitize_for_terminal

if TYPE_CHECKING:
    from providers.contract import JsonValue

NOTHING = "-"
"""Cell without a value."""


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a table: one line for the columns and one for each row. None and "" are printed as "-"."""
    lines = [columns, *(tuple(map(_cell, row)) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        typer.echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def print_json(document: Mapping[str, JsonValue]) -> None:
    """Print a document on one line, in ASCII: several of them are JSON lines."""
    typer.echo(json.dumps(document))


def _cell(value: object) -> str:
    text = NOTHING if value is None or value == "" else str(value)
    return sanitize_for_terminal(text).replace("\n", " ").replace("\t", " ")
