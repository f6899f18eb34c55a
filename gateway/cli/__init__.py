"""Command line interface: commands and options of `runward`. Each command is implemented in the module of its name.

Modules are imported when their command runs, so that `--help` does not load the libraries of a server. The commands of
servers are here, the others in `commands`, which a server does not import: typer takes 50 ms to build them all.
"""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from gateway.cli.errors import CliError

PROGRAM = "runward"
"""Name of the command, also if it is started as `python -m gateway`."""

app = typer.Typer(pretty_exceptions_enable=False, rich_markup_mode=None)

Config: TypeAlias = Annotated[Path | None, typer.Option(help="Configuration file.", envvar="RUNWARD_CONFIG")]


@app.callback(invoke_without_command=True)
def runward(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Show the version.")] = False,  # noqa: FBT002 - a flag
) -> None:
    """One HTTP service in front of PromptLayer and Prompt Studio."""
    if version:
        typer.echo(f"runward {version_of('runward')}")
    elif context.invoked_subcommand is None:
        typer.echo(context.get_help())


@app.command()
def serve(
    config: Config = None,
    workers: Annotated[
        int,
        typer.Option(min=1, max=64, envvar="RUNWARD_WORKERS", help="Number of worker processes that share the port."),
    ] = 1,
) -> None:
    """Serve until SIGTERM or Ctrl-C."""
    from gateway.cli.serve import serve, serve_with_workers

    if workers == 1:
        serve(config)
    else:
        serve_with_workers(config, workers)


@app.command(hidden=True)
def worker(spec: Annotated[str, typer.Argument()], config: Config = None) -> None:
    """Worker process of `serve --workers`; not for manual use."""
    from gateway.cli.worker import worker

    worker(spec, config)


def main(*, is_server: bool = False) -> None:
    """Run the command line. Errors are printed as one line each, without a traceback.

    `is_server`: the command is one of a server, so that the others are not imported.
    """
    if not is_server:
        import_module("gateway.cli.commands")
    try:
        code = app(prog_name=PROGRAM, standalone_mode=False)
    except typer.TyperException as error:
        text = error.format_message().replace(": Value error, ", ": ")
        if not isinstance(error, CliError):
            text = f"{text.rstrip('.')}. Try --help."
        for line in text.splitlines():
            typer.echo(f"runward: {line}", err=True)
        code = error.exit_code
    except typer.Abort:
        code = 130
    except OSError as error:
        if sys.argv[1:2] != ["--install-completion"]:
            raise
        typer.echo(f"runward: {error.filename} cannot be written ({error.strerror}); see --show-completion", err=True)
        code = 2
    sys.exit(code)
