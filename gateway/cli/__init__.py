"""Command line interface: commands and options of `runward`. Each command is implemented in the module of its name.

Modules are imported when their command runs, so that `--help` does not load the libraries of a server.
"""

from __future__ import annotations

import sys
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from gateway.cli.errors import CliError

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
keys_app = typer.Typer(help="Create gateway keys, and hash them for the configuration.")
config_app = typer.Typer(help="Describe the configuration.")
callbacks_app = typer.Typer(help="Redeliver callbacks that were abandoned (dead letters).")
providers_app = typer.Typer(help="Suspend the starts at a provider, or open or close its circuits, at all replicas.")
app.add_typer(keys_app, name="keys")
app.add_typer(config_app, name="config")
app.add_typer(callbacks_app, name="callbacks")
app.add_typer(providers_app, name="providers")

OpsUrl: TypeAlias = Annotated[str, typer.Option(envvar="RUNWARD_OPS_URL", help="URL of the operations port.")]
OpsKey: TypeAlias = Annotated[str | None, typer.Option(envvar="RUNWARD_OPS_KEY", hidden=True)]
OpsKeyFile: TypeAlias = Annotated[
    Path | None, typer.Option(help="File with a key of server.ops_keys; RUNWARD_OPS_KEY by default.")
]
Provider: TypeAlias = Annotated[str, typer.Argument(help="Name of the provider.")]
Note: TypeAlias = Annotated[str, typer.Option(help="Why, for other operators; at most 200 characters.")]
_OPS_URL = "http://127.0.0.1:9090"

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


@app.command()
def demo(
    port: Annotated[int, typer.Option(min=0, max=65535, help="Public port; 0: any free port.")] = 8080,
    ops_port: Annotated[int, typer.Option(min=0, max=65535, help="Operations port; 0: any free port.")] = 9090,
) -> None:
    """Run a gateway with emulated providers on this machine; no account is needed and nothing is paid for."""
    from gateway.cli.demo.command import demo

    demo(port, ops_port)


@app.command()
def check(
    path: Annotated[Path | None, typer.Argument(help="Configuration file.", show_default=False)] = None,
    config: Config = None,
    *,
    connect: Annotated[
        bool, typer.Option("--connect", help="Test DNS, TLS, provider keys, store and callback secrets too.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print warnings and checks as JSON.")] = False,
) -> None:
    """Validate a configuration and print its contents, without serving it.

    Exit code 0: valid. 1: a check of --connect failed. 2: the configuration is invalid.
    """
    from gateway.cli.check import check

    check(path or config, connect=connect, as_json=as_json)


@app.command()
def run(
    workflow: Annotated[str, typer.Argument(help="An alias, or provider/name.")],
    context: typer.Context,
    *,
    input_option: Annotated[
        str | None, typer.Option("--input", help="Input as a JSON object; @FILE or @- (standard input) reads it.")
    ] = None,
    input_pairs: Annotated[
        list[str] | None,
        typer.Option("-i", metavar="NAME=TEXT", help="Member of the input: name=text or name:=JSON. Repeatable."),
    ] = None,
    url: Annotated[str, typer.Option(envvar="RUNWARD_URL", help="Base URL of the gateway.")] = "http://127.0.0.1:8080",
    key: Annotated[str | None, typer.Option(envvar="RUNWARD_KEY", hidden=True)] = None,
    key_file: Annotated[Path | None, typer.Option(help="File with the gateway key; RUNWARD_KEY by default.")] = None,
    label: Annotated[str | None, typer.Option(help="Release label to run.")] = None,
    version: Annotated[int | None, typer.Option(help="Version to run; excludes --label.")] = None,
    timeout: Annotated[float | None, typer.Option(help="Deadline of the run in seconds.")] = None,
    return_all_outputs: Annotated[
        bool, typer.Option("--all-outputs", help="Print the output of every node as well.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the response document unchanged.")] = False,
) -> None:
    """Run a workflow through a gateway and print its output.

    Exit code 0: the run succeeded. 1: it failed, or its outcome is unknown. 2: it was not requested.
    """
    from gateway.cli.run import run_and_print
    from gateway.cli.run_input import read_input, read_key

    source = context.get_parameter_source("key")
    if source is not None and source.name == "COMMANDLINE":
        raise typer.BadParameter(
            "arguments are visible to other users: use RUNWARD_KEY or --key-file", param_hint="--key"
        )
    request_body = {
        "workflow": workflow,
        "input": read_input(input_option, input_pairs or []),
        "label": label,
        "version": version,
        "timeout": timeout,
        "return_all_outputs": return_all_outputs,
    }
    run_and_print(url, read_key(key, key_file), request_body, as_json=as_json)


@keys_app.command("new")
def new_key(
    client: Annotated[str, typer.Option(help="Name of the client.")] = "my-app",
    expires: Annotated[str | None, typer.Option(help="Expiry: a date, or a date and time.", metavar="DATE")] = None,
) -> None:
    """Create a key. The key is printed to standard output, the lines for the configuration to standard error."""
    from gateway.cli.keys import print_new_key

    print_new_key(client, expires)


@keys_app.command("hash")
def hash_key() -> None:
    """Read a key from standard input and print its hash."""
    from gateway.cli.keys import print_hash_of_stdin

    print_hash_of_stdin()


@callbacks_app.command("replay")
def replay_callbacks(
    context: typer.Context,
    run_ids: Annotated[
        list[str] | None, typer.Argument(help="Ids of the runs whose callbacks are redelivered.")
    ] = None,
    *,
    given_up: Annotated[bool, typer.Option("--given-up", help="All runs whose callback was abandoned.")] = False,
    limit: Annotated[int, typer.Option(min=1, help="Largest number of these.")] = 1000,
    ops_url: OpsUrl = _OPS_URL,
    ops_key: OpsKey = None,
    ops_key_file: OpsKeyFile = None,
) -> None:
    """Redeliver callbacks, starting now, with their whole schedule.

    Exit code 0: they are due. 1: a run has no callback. 2: the gateway could not be reached.
    """
    from gateway.cli.operations.callbacks import replay

    key = _read_ops_key(context, ops_key, ops_key_file)
    replay(ops_url, run_ids or [], key=key, given_up=given_up, limit=limit)


@providers_app.command("list")
def list_providers(
    context: typer.Context, ops_url: OpsUrl = _OPS_URL, ops_key: OpsKey = None, ops_key_file: OpsKeyFile = None
) -> None:
    """List the providers: mode, since when, circuits that are not closed, note."""
    from gateway.cli.operations.providers import list_providers

    list_providers(ops_url, _read_ops_key(context, ops_key, ops_key_file))


@providers_app.command("suspend")
def suspend_provider(
    provider: Provider,
    context: typer.Context,
    *,
    note: Note = "",
    ops_url: OpsUrl = _OPS_URL,
    ops_key: OpsKey = None,
    ops_key_file: OpsKeyFile = None,
) -> None:
    """Send no more starts to a provider, until `auto`: background runs wait, others fall back or are refused.

    Runs that were started are polled to their end. Exit code 1: there is no such provider. 2: the gateway could not be
    reached. So for the other commands.
    """
    _set_mode(provider, "suspended", ops_url, _read_ops_key(context, ops_key, ops_key_file), note=note)


@providers_app.command("open")
def open_circuits(
    provider: Provider,
    context: typer.Context,
    *,
    note: Note = "",
    ops_url: OpsUrl = _OPS_URL,
    ops_key: OpsKey = None,
    ops_key_file: OpsKeyFile = None,
) -> None:
    """Open all circuits of a provider, until `auto`: its runs fall back or are refused, those in the background too."""
    _set_mode(provider, "open", ops_url, _read_ops_key(context, ops_key, ops_key_file), note=note)


@providers_app.command("close")
def close_circuits(
    provider: Provider,
    context: typer.Context,
    *,
    note: Note = "",
    ops_url: OpsUrl = _OPS_URL,
    ops_key: OpsKey = None,
    ops_key_file: OpsKeyFile = None,
) -> None:
    """Let no circuit breaker of a provider refuse a start, until `auto`."""
    _set_mode(provider, "closed", ops_url, _read_ops_key(context, ops_key, ops_key_file), note=note)


@providers_app.command("auto")
def undo_override(
    provider: Provider,
    context: typer.Context,
    *,
    ops_url: OpsUrl = _OPS_URL,
    ops_key: OpsKey = None,
    ops_key_file: OpsKeyFile = None,
) -> None:
    """Undo suspend, open or close: the circuit breakers of the provider decide again."""
    _set_mode(provider, "auto", ops_url, _read_ops_key(context, ops_key, ops_key_file))


@config_app.command("schema")
def schema() -> None:
    """Print the configuration's JSON schema."""
    from gateway.settings.schema import render_schema

    typer.echo(render_schema(), nl=False)


def _set_mode(provider: str, mode: str, ops_url: str, key: str, *, note: str = "") -> None:
    from gateway.cli.operations.providers import set_mode

    set_mode(ops_url, provider, mode, note, key)


def _read_ops_key(context: typer.Context, ops_key: str | None, ops_key_file: Path | None) -> str:
    from gateway.cli.run_input import read_optional_key

    source = context.get_parameter_source("ops_key")
    if source is not None and source.name == "COMMANDLINE":
        raise typer.BadParameter("arguments are visible to other users: use RUNWARD_OPS_KEY or --ops-key-file")
    return read_optional_key(ops_key, ops_key_file)


def main() -> None:
    """Run the command line. Errors are printed as one line each, without a traceback."""
    try:
        code = app(standalone_mode=False)
    except typer.TyperException as error:
        hint = "" if isinstance(error, CliError) else " Try --help."
        for line in (error.format_message() + hint).splitlines():
            typer.echo(f"runward: {line}", err=True)
        code = error.exit_code
    except typer.Abort:
        code = 130
    sys.exit(code)
