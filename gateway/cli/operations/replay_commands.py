"""Commands of `runward runs` about replays. Exit codes as in `gateway.cli.operations.commands`."""

from __future__ import annotations

from typing import Annotated, TypeAlias

import typer

from gateway.cli.operations.options import DEFAULT_OPS_URL, AsJson, OpsKey, OpsKeyFile, OpsUrl, connect

ReplayId: TypeAlias = Annotated[str, typer.Argument(help="Id of the job, which `runward runs replay` prints.")]


def add_replay_commands(app: typer.Typer) -> None:
    """Add the commands to a group."""
    app.command("replay")(replay_runs)
    app.command("show-replay")(show_replay)
    app.command("abort-replay")(abort_replay)


def replay_runs(
    context: typer.Context,
    run_ids: Annotated[list[str] | None, typer.Argument(help="Ids of ended runs.", metavar="ID")] = None,
    *,
    conditions: Annotated[
        list[str] | None,
        typer.Option(
            "--filter",
            metavar="NAME=VALUE",
            help="Runs that meet the condition, as in GET /api/runs; by default of the last 7 days. Repeatable.",
        ),
    ] = None,
    include_unknown: Annotated[
        bool, typer.Option("--include-unknown", help="Also runs that may have been executed: they may be paid twice.")
    ] = False,
    rate: Annotated[float, typer.Option(min=0.2, max=50, help="Starts a second.")] = 5.0,
    confirmed: Annotated[bool, typer.Option("--yes", help="Start without a question.")] = False,
    as_json: AsJson = False,
    ops_url: OpsUrl = DEFAULT_OPS_URL,
    ops_key: OpsKey = None,
    ops_key_file: OpsKeyFile = None,
) -> None:
    """Run again what has ended: prints what that starts, asks, and shows the progress of the job.

    Each run is replayed once, however often the command is repeated; but replays are runs too, and a filter selects
    those that failed. The job goes on if the command is interrupted.

    Exit code 0: all were started, or there was nothing to start. 1: the answer was no, runs were refused, the job was
    aborted, or runs that were named cannot be replayed. 2: anything else.
    """
    from gateway.cli.operations import replays

    client = connect(context, ops_url, ops_key, ops_key_file)
    replays.replay_runs(
        client,
        run_ids or [],
        conditions or [],
        include_unknown=include_unknown,
        rate=rate,
        confirmed=confirmed,
        as_json=as_json,
    )


def show_replay(
    replay_id: ReplayId,
    context: typer.Context,
    *,
    as_json: AsJson = False,
    ops_url: OpsUrl = DEFAULT_OPS_URL,
    ops_key: OpsKey = None,
    ops_key_file: OpsKeyFile = None,
) -> None:
    """Show the progress of a replay."""
    from gateway.cli.operations import replays

    replays.show_replay(connect(context, ops_url, ops_key, ops_key_file), replay_id, as_json=as_json)


def abort_replay(
    replay_id: ReplayId,
    context: typer.Context,
    *,
    as_json: AsJson = False,
    ops_url: OpsUrl = DEFAULT_OPS_URL,
    ops_key: OpsKey = None,
    ops_key_file: OpsKeyFile = None,
) -> None:
    """Stop further starts of a replay. Runs that were started continue."""
    from gateway.cli.operations import replays

    replays.abort_replay(connect(context, ops_url, ops_key, ops_key_file), replay_id, as_json=as_json)
