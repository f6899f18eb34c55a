"""Commands and options of `runward audit`. Exit codes: as in `gateway.cli.operations.commands`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from gateway.cli.operations.options import DEFAULT_OPS_URL, AsJson, OpsKey, OpsKeyFile, OpsUrl, connect

audit_app = typer.Typer(help="List, export and verify the records of what was changed, and by which operator.")


class AuditResult(StrEnum):
    """How a record says that an act ended."""

    begun = "begun"
    succeeded = "succeeded"
    refused = "refused"
    failed = "failed"


@audit_app.command("list")
def list_records(
    context: typer.Context,
    *,
    actor: Annotated[str | None, typer.Option(help="Name of the operations key, or `system`.")] = None,
    action: Annotated[str | None, typer.Option(help="What was done, such as runs.judge.")] = None,
    target: Annotated[str | None, typer.Option(help="Id or name of what was changed.")] = None,
    result: Annotated[AuditResult | None, typer.Option(help="How it ended.")] = None,
    from_time: Annotated[str | None, typer.Option("--from", help="Time as in RFC 3339: 2026-11-21T12:00:00Z.")] = None,
    until_time: Annotated[str | None, typer.Option("--until", help="Time before which the records are.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="Largest number of records.")] = 50,
    as_json: AsJson = False,
    ops_url: OpsUrl = DEFAULT_OPS_URL,
    ops_key: OpsKey = None,
    ops_key_file: OpsKeyFile = None,
) -> None:
    """List records that meet all conditions, newest first.

    The record of a beginning is left out of the table if that of the end is in it.

    Exit code 2: a condition has no meaning, or the gateway could not be reached, or refused it.
    """
    from gateway.cli.operations.audit import list_records

    conditions = {
        "actor": actor,
        "action": action,
        "target": target,
        "from": from_time,
        "until": until_time,
        "result": None if result is None else result.value,
    }
    list_records(connect(context, ops_url, ops_key, ops_key_file), conditions, limit, as_json=as_json)


@audit_app.command("export")
def export_records(
    context: typer.Context,
    *,
    after: Annotated[
        int, typer.Option(min=0, help="Sequence number of the last record of an earlier export; this one goes on.")
    ] = 0,
    ops_url: OpsUrl = DEFAULT_OPS_URL,
    ops_key: OpsKey = None,
    ops_key_file: OpsKeyFile = None,
) -> None:
    """Print all records as JSON lines, oldest first, and on standard error the head to note for `verify --head`.

    Exit code 2: the gateway could not be reached, or refused it.
    """
    from gateway.cli.operations.audit import export_records

    export_records(connect(context, ops_url, ops_key, ops_key_file), after)


@audit_app.command("verify")
def verify_records(
    context: typer.Context,
    file: Annotated[
        Path | None, typer.Argument(help="Exported JSON lines; - for standard input. By default the gateway's records.")
    ] = None,
    *,
    head: Annotated[
        str | None, typer.Option(help="Head that was noted before, SEQUENCE:HASH: it has to be in the chain.")
    ] = None,
    as_json: AsJson = False,
    ops_url: OpsUrl = DEFAULT_OPS_URL,
    ops_key: OpsKey = None,
    ops_key_file: OpsKeyFile = None,
) -> None:
    """Verify the chain of records: say which were changed, removed, moved or inserted.

    Without --head it is not noticed if the newest records were removed, or all were written anew from some record on.

    Exit code 0: nothing was found. 1: the chain is broken. 2: the gateway could not be reached, or refused it.
    """
    from gateway.cli.operations.audit_verification import verify_chain, verify_file

    if file is not None:
        verify_file(file, head, as_json=as_json)
    else:
        verify_chain(connect(context, ops_url, ops_key, ops_key_file), head, as_json=as_json)
