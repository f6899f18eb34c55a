"""`runward runs judge`: what an operator found out about a run that ended as `unknown`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from gateway.cli.operations.options import DEFAULT_OPS_URL, AsJson, OpsKey, OpsKeyFile, OpsUrl, connect

if TYPE_CHECKING:
    from gateway.cli.operations.client import OpsClient


def register(runs_app: typer.Typer) -> None:
    """Add the command to the group `runward runs`."""
    runs_app.command("judge")(judge_run)


def judge_run(
    run_id: Annotated[str, typer.Argument(help="Id of the run.")],
    context: typer.Context,
    *,
    paid: Annotated[bool, typer.Option("--paid", help="The provider executed the run.")] = False,
    not_run: Annotated[bool, typer.Option("--not-run", help="The provider did not execute it.")] = False,
    note: Annotated[str, typer.Option(help="What was found, for other operators; at most 500 characters.")] = "",
    as_json: AsJson = False,
    ops_url: OpsUrl = DEFAULT_OPS_URL,
    ops_key: OpsKey = None,
    ops_key_file: OpsKeyFile = None,
) -> None:
    """Record what was found at the provider about a run that ended as unknown; its outcome stays unknown.

    Exit code 1: there is no such run, or it has another outcome. 2: the gateway could not be reached, or refused it.
    """
    if paid == not_run:
        raise typer.BadParameter("give --paid or --not-run")
    client = connect(context, ops_url, ops_key, ops_key_file)
    judge(client, run_id, "found_paid" if paid else "found_not_run", note, as_json=as_json)


def judge(client: OpsClient, run_id: str, verdict: str, note: str, *, as_json: bool) -> None:
    """Store the judgement, in place of an earlier one, and print it. Raises CliError. May be repeated."""
    from gateway.cli.operations.output import print_json, print_table

    document = client.post("api", "runs", run_id, "judge", body={"verdict": verdict, "note": note})
    if as_json:
        print_json(document)
        return
    stored = document.get("judgement")
    judgement = stored if isinstance(stored, dict) else {}
    print_table(
        ("RUN", "VERDICT", "AT", "NOTE"),
        [(document.get("id"), *(judgement.get(name) for name in ("verdict", "at", "note")))],
    )
