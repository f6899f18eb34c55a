"""Options of every command that uses the operations port."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

if TYPE_CHECKING:
    from gateway.cli.operations.client import OpsClient

DEFAULT_OPS_URL = "http://127.0.0.1:9090"

OpsUrl: TypeAlias = Annotated[str, typer.Option(envvar="RUNWARD_OPS_URL", help="URL of the operations port.")]
OpsKey: TypeAlias = Annotated[str | None, typer.Option(envvar="RUNWARD_OPS_KEY", hidden=True)]
OpsKeyFile: TypeAlias = Annotated[
    Path | None, typer.Option(help="File with a key of server.ops_keys; RUNWARD_OPS_KEY by default.")
]
AsJson: TypeAlias = Annotated[
    bool, typer.Option("--json", help="Print JSON: one document, or one on each line of a list.")
]


def connect(context: typer.Context, ops_url: str, ops_key: str | None, ops_key_file: Path | None) -> OpsClient:
    """Return the client of the port. Raises CliError, and BadParameter for a key in the arguments."""
    from gateway.cli.operations.client import OpsClient
    from gateway.cli.run_input import read_ops_key

    source = context.get_parameter_source("ops_key")
    if source is not None and source.name == "COMMANDLINE":
        raise typer.BadParameter("arguments are visible to other users: use RUNWARD_OPS_KEY or --ops-key-file")
    return OpsClient(ops_url, read_ops_key(ops_key, ops_key_file))
