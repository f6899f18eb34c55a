"""Commands of `runward` besides those of servers, in the order of the help."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gateway.cli import Config, app
from gateway.cli.operations import attention, budgets, cancel, judge
from gateway.cli.operations.audit_commands import audit_app
from gateway.cli.operations.commands import callbacks_app, logs_app, providers_app
from gateway.cli.operations.key_commands import add_key_commands
from gateway.cli.operations.replay_commands import add_replay_commands
from gateway.cli.operations.run_commands import runs_app
from gateway.cli.operations.usage_commands import usage_app

keys_app = typer.Typer(help="Create, rotate and revoke gateway keys, and hash them for the configuration.")
config_app = typer.Typer(help="Describe the configuration.")
app.add_typer(keys_app, name="keys")
app.add_typer(config_app, name="config")
app.add_typer(callbacks_app, name="callbacks")
app.add_typer(providers_app, name="providers")
app.add_typer(runs_app, name="runs")
judge.register(runs_app)
cancel.register(runs_app)
add_replay_commands(runs_app)
add_key_commands(keys_app)
app.add_typer(logs_app, name="logs")
app.add_typer(audit_app, name="audit")
app.add_typer(usage_app, name="usage")


@app.command()
def demo(
    port: Annotated[int, typer.Option(min=0, max=65535, help="Public port; 0: any free port.")] = 8080,
    ops_port: Annotated[int, typer.Option(min=0, max=65535, help="Operations port; 0: any free port.")] = 9090,
    *,
    traffic: Annotated[
        bool, typer.Option("--traffic", help="Request runs all the time, to watch in the console.")
    ] = False,
) -> None:
    """Run a gateway with emulated providers on this machine; no account is needed and nothing is paid for."""
    from gateway.cli.demo.command import demo

    demo(port, ops_port, traffic=traffic)


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


@keys_app.command("hash")
def hash_key() -> None:
    """Read a key from standard input and print its hash."""
    from gateway.cli.keys import print_hash_of_stdin

    print_hash_of_stdin()


@config_app.command("schema")
def schema() -> None:
    """Print the configuration's JSON schema."""
    from gateway.settings.schema import render_schema

    typer.echo(render_schema(), nl=False)


@config_app.command("hash")
def hash_configuration(config: Config = None) -> None:
    """Print the hash of a configuration, as audit records have it; the values of secrets are not part of it.

    Exit code 2: a gateway would refuse the configuration.
    """
    from gateway.cli.serve import startup_errors
    from gateway.settings import load
    from gateway.settings.configuration_hash import configuration_hash

    with startup_errors():
        typer.echo(configuration_hash(load(config)))


attention.register(app)
budgets.register(app)
