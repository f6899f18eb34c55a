"""Commands and options of `runward runs`. Exit codes: as in `gateway.cli.operations.commands`."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from gateway.cli.operations.options import DEFAULT_OPS_URL, AsJson, OpsKey, OpsKeyFile, OpsUrl, connect
from gateway.cli.operations.run_conditions import CONDITIONS, LIST_CONDITIONS, Conditions, with_conditions

runs_app = typer.Typer(help="Search the runs of all clients, show what happened to one, watch, judge and cancel them.")


@runs_app.command("list")
@with_conditions(LIST_CONDITIONS)
def list_runs(
    context: typer.Context,
    *,
    query: Conditions,
    limit: Annotated[int, typer.Option(min=1, help="Largest number of runs.")] = 50,
    all_runs: Annotated[bool, typer.Option("--all", help="All of them: follow every page.")] = False,
    as_json: AsJson = False,
    ops_url: OpsUrl = DEFAULT_OPS_URL,
    ops_key: OpsKey = None,
    ops_key_file: OpsKeyFile = None,
) -> None:
    """List runs that meet all conditions, newest first.

    Exit code 2: a condition has no meaning, or the gateway could not be reached, or refused it.
    """
    from gateway.cli.operations.runs import list_runs

    client = connect(context, ops_url, ops_key, ops_key_file)
    list_runs(client, query, sys.maxsize if all_runs else limit, as_json=as_json)


@runs_app.command("show")
def show_run(
    run_id: Annotated[str, typer.Argument(help="Id of the run.", metavar="ID")],
    context: typer.Context,
    *,
    as_json: AsJson = False,
    ops_url: OpsUrl = DEFAULT_OPS_URL,
    ops_key: OpsKey = None,
    ops_key_file: OpsKeyFile = None,
) -> None:
    """Show a run and what happened to it, with the seconds since its creation.

    Exit code 1: no run with this id is recorded. 2: the gateway could not be reached, or refused it.
    """
    from gateway.cli.operations.runs import show_run

    show_run(connect(context, ops_url, ops_key, ops_key_file), run_id, as_json=as_json)


@runs_app.command("tail")
@with_conditions(CONDITIONS)
def tail_runs(
    context: typer.Context,
    *,
    query: Conditions,
    interval: Annotated[float, typer.Option(min=0.1, max=60, help="Seconds between two requests.")] = 1.0,
    window: Annotated[
        float,
        typer.Option(min=10, max=86_400, help="Longest run in seconds that is found at its end, if not before."),
    ] = 600.0,
    as_json: AsJson = False,
    ops_url: OpsUrl = DEFAULT_OPS_URL,
    ops_key: OpsKey = None,
    ops_key_file: OpsKeyFile = None,
) -> None:
    """Print runs as they are created and as they end, until Ctrl-C.

    Exit code 2: a condition has no meaning, or the gateway could not be reached at first, or refused it.
    """
    from gateway.cli.operations.run_tail import tail_runs

    client = connect(context, ops_url, ops_key, ops_key_file)
    tail_runs(client, query, interval=interval, window=window, as_json=as_json)
