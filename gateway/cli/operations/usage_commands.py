"""Commands and options of `runward usage`. Exit codes: as in `gateway.cli.operations.commands`."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, TypeAlias

import typer

from gateway.cli.operations.options import DEFAULT_OPS_URL, AsJson, OpsKey, OpsKeyFile, OpsUrl, connect

usage_app = typer.Typer(
    help="Sum up runs and what they cost, by day, client, workflow and more, and export it.",
    invoke_without_command=True,
)

First: TypeAlias = Annotated[
    str | None, typer.Option("--from", metavar="DAY", help="First day in UTC, such as 2026-11-01; 29 days before --to.")
]
Last: TypeAlias = Annotated[str | None, typer.Option("--to", metavar="DAY", help="Last day in UTC; today by default.")]
Texts: TypeAlias = list[str] | None


class Outcome(StrEnum):
    """Outcome of runs."""

    succeeded = "succeeded"
    failed = "failed"
    unknown = "unknown"
    not_run = "not_run"


class Certainty(StrEnum):
    """Whether runs and amounts were paid."""

    none = "none"
    spent = "spent"
    unknown = "unknown"


@usage_app.callback()
def show_usage(
    context: typer.Context,
    *,
    first: First = None,
    last: Last = None,
    group_by: Annotated[
        str,
        typer.Option(
            "--by",
            metavar="NAMES",
            help="Names with commas: day, week, month, client, team, key, workflow, provider, api, outcome, certainty, "
            "tag; empty for the total.",
        ),
    ] = "day",
    client: Annotated[Texts, typer.Option(help="Runs of this client. Repeatable, as the others.")] = None,
    team: Annotated[Texts, typer.Option(help="Runs of this team.")] = None,
    key: Annotated[Texts, typer.Option(help="Runs with the key of this id.")] = None,
    workflow: Annotated[Texts, typer.Option(help="Runs of this workflow.")] = None,
    provider: Annotated[Texts, typer.Option(help="Runs at this provider.")] = None,
    api: Annotated[Texts, typer.Option(help="Runs through this API.")] = None,
    outcome: Annotated[list[Outcome] | None, typer.Option(help="Runs with this outcome.")] = None,
    certainty: Annotated[list[Certainty] | None, typer.Option(help="Runs and amounts of this certainty.")] = None,
    tag: Annotated[Texts, typer.Option(help="Runs with this tag; not with key, workflow, provider and api.")] = None,
    as_json: AsJson = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
    ops_url: OpsUrl = DEFAULT_OPS_URL,
    ops_key: OpsKey = None,
    ops_key_file: OpsKeyFile = None,
) -> None:
    """Sum up the runs that were created on the days from --from to --to.

    SPENT was paid by the declared prices, UNKNOWN may have been paid. Exit code 2: an option has no meaning, or the
    gateway could not be reached, or refused it.
    """
    if context.invoked_subcommand is not None:
        return
    from gateway.cli.operations.usage import show_usage

    query = {
        "from": first,
        "to": last,
        "group_by": group_by,
        "client": client,
        "team": team,
        "key": key,
        "workflow": workflow,
        "provider": provider,
        "api": api,
        "outcome": [each.value for each in outcome or ()],
        "certainty": [each.value for each in certainty or ()],
        "tag": tag,
    }
    show_usage(connect(context, ops_url, ops_key, ops_key_file), query, as_json=as_json, as_csv=as_csv)


@usage_app.command("export")
def export_usage(
    context: typer.Context,
    *,
    focus: Annotated[bool, typer.Option("--focus", help="As CSV in the form of FOCUS 1.2; needed.")] = False,
    first: First = None,
    last: Last = None,
    ops_url: OpsUrl = DEFAULT_OPS_URL,
    ops_key: OpsKey = None,
    ops_key_file: OpsKeyFile = None,
) -> None:
    """Export usage for a program that analyses costs, to standard output.

    Amounts that may have been paid are rows of their own: x_Certainty is unknown. Exit code 2: the gateway could not be
    reached, or refused it; the output is then incomplete.
    """
    from gateway.cli.operations.usage import export_focus

    if not focus:
        raise typer.BadParameter("--focus is the only form so far; for a table as CSV: runward usage --csv")
    export_focus(connect(context, ops_url, ops_key, ops_key_file), first, last)
