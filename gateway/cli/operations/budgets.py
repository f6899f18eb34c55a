"""`runward budgets`: how much of each budget is spent."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from gateway.cli.operations.options import DEFAULT_OPS_URL, AsJson, OpsKey, OpsKeyFile, OpsUrl, connect

if TYPE_CHECKING:
    from gateway.cli.operations.client import OpsClient

_COLUMNS = ("budget", "window", "amount", "spent", "unknown", "reserved", "remaining")


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("budgets")(list_budgets)


def list_budgets(
    context: typer.Context,
    *,
    as_json: AsJson = False,
    ops_url: OpsUrl = DEFAULT_OPS_URL,
    ops_key: OpsKey = None,
    ops_key_file: OpsKeyFile = None,
) -> None:
    """List the budgets: what is spent, may be spent (unknown) and is reserved in the current window.

    Exit code 0: the list was printed, empty or not. 2: the gateway could not be reached, or refused it.
    """
    print_budgets(connect(context, ops_url, ops_key, ops_key_file), as_json=as_json)


def print_budgets(client: OpsClient, *, as_json: bool) -> None:
    """Print a table of the budgets, or a JSON line for each. Raises CliError."""
    from gateway.cli.operations.output import print_json, print_table

    listed = client.get("api", "budgets").get("budgets")
    budgets = [each for each in listed if isinstance(each, dict)] if isinstance(listed, list) else []
    if as_json:
        for budget in budgets:
            print_json(budget)
    elif budgets:
        print_table([name.upper() for name in _COLUMNS], ([each.get(name) for name in _COLUMNS] for each in budgets))
    else:
        typer.echo("no budget is configured", err=True)
