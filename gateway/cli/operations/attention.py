"""`runward attention`: what needs an operator now."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from gateway.cli.operations.options import DEFAULT_OPS_URL, AsJson, OpsKey, OpsKeyFile, OpsUrl, connect

if TYPE_CHECKING:
    from gateway.cli.operations.client import OpsClient


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("attention")(list_attention)


def list_attention(
    context: typer.Context,
    *,
    as_json: AsJson = False,
    ops_url: OpsUrl = DEFAULT_OPS_URL,
    ops_key: OpsKey = None,
    ops_key_file: OpsKeyFile = None,
) -> None:
    """List what needs an operator now, and what to do.

    Critical items are first.

    Exit code 0: the list was printed, empty or not. 2: the gateway could not be reached, or refused it.
    """
    print_items(connect(context, ops_url, ops_key, ops_key_file), as_json=as_json)


def print_items(client: OpsClient, *, as_json: bool) -> None:
    """Print a table of the items, or a JSON line for each. Raises CliError."""
    from gateway.cli.operations.output import print_json, print_table

    listed = client.get("api", "attention").get("items")
    items = [each for each in listed if isinstance(each, dict)] if isinstance(listed, list) else []
    if as_json:
        for item in items:
            print_json(item)
    elif items:
        columns = ("severity", "since", "summary", "action")
        print_table([each.upper() for each in columns], ([item.get(each) for each in columns] for item in items))
    else:
        typer.echo("nothing needs attention", err=True)
