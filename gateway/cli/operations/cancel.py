"""`runward runs cancel`: ends runs of which no start was sent, and has providers asked to stop others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.cli.operations.options import DEFAULT_OPS_URL, AsJson, OpsKey, OpsKeyFile, OpsUrl, connect

if TYPE_CHECKING:
    from gateway.cli.operations.client import OpsClient
    from providers.contract import JsonValue

_GOES_ON = frozenset({"too_late", "not_stopped", "not_yet"})
"""States of runs that go on, as far as is known."""


def register(runs_app: typer.Typer) -> None:
    """Add the command to the group `runward runs`."""
    runs_app.command("cancel")(cancel_runs)


def cancel_runs(
    run_ids: Annotated[list[str], typer.Argument(help="Ids of runs that have not ended.", metavar="ID...")],
    context: typer.Context,
    *,
    as_json: AsJson = False,
    ops_url: OpsUrl = DEFAULT_OPS_URL,
    ops_key: OpsKey = None,
    ops_key_file: OpsKeyFile = None,
) -> None:
    """Cancel runs that wait for their start: nothing is paid. The providers of started ones are asked to stop them.

    A started run may be paid for all the same, and ends as its provider reports. The command may be repeated.

    Exit code 0: all were cancelled, or their providers stop them. 1: a run may go on, has ended, or does not exist. 2:
    the gateway could not be reached, or refused it; what is printed was done.
    """
    cancel(connect(context, ops_url, ops_key, ops_key_file), run_ids, as_json=as_json)


def cancel(client: OpsClient, run_ids: Sequence[str], *, as_json: bool) -> None:
    """Cancel each run, and print a line for it; as JSON lines the gateway's document, or the id and the error.

    Raises CliError: exit code 1 if not all were cancelled or stopped.
    """
    from gateway.cli.errors import CliError, sanitize_for_terminal
    from gateway.cli.operations.output import print_json

    going_on, refused = list[str](), list[str]()
    for run_id in run_ids:
        document = _cancel_one(client, run_id)
        if "error" in document:
            refused.append(sanitize_for_terminal(run_id))
        elif _text(document, "cancel", "state") in _GOES_ON:
            going_on.append(sanitize_for_terminal(run_id))
        if as_json:
            print_json(document)
        else:
            typer.echo(_line(run_id, document))
    parts = [("not cancelled", refused), ("may go on", going_on)]
    if refused or going_on:
        raise CliError("; ".join(f"{text}: {', '.join(ids)}" for text, ids in parts if ids), exit_code=1)


def _cancel_one(client: OpsClient, run_id: str) -> dict[str, JsonValue]:
    """Return the gateway's document, or the error of a run that has ended or does not exist. Raises CliError."""
    from gateway.cli.operations.client import OpsProblem

    try:
        return client.post("api", "runs", run_id, "cancel")
    except OpsProblem as problem:
        if problem.code not in {"not_found", "run_ended"}:
            raise
        return {"id": run_id, "error": {"code": problem.code, "detail": problem.detail}}


def _line(run_id: str, document: dict[str, JsonValue]) -> str:
    from gateway.cli.operations.runs import one_line

    if "error" in document:
        return one_line(f"{run_id}  {_text(document, 'error', 'code')}: {_text(document, 'error', 'detail')}")
    return one_line(f"{run_id}  {_text(document, 'cancel', 'state')}: {_text(document, 'cancel', 'detail')}")


def _text(document: dict[str, JsonValue], member: str, name: str) -> str:
    value = document.get(member)
    return str(value.get(name)) if isinstance(value, dict) else ""
