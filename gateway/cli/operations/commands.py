"""Commands and options of `runward callbacks`, `runward providers` and `runward logs`.

Exit codes: 0, the command was carried out. 1, what it names does not exist, or is in a state that does not permit it.
2, anything else: invalid options, a gateway that cannot be reached, a key that is refused, a store that is unavailable.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, TypeAlias

import typer

from gateway.cli.operations.options import DEFAULT_OPS_URL, AsJson, OpsKey, OpsKeyFile, OpsUrl, connect

callbacks_app = typer.Typer(help="List callbacks, and redeliver those that were abandoned (dead letters).")
providers_app = typer.Typer(help="Suspend the starts at a provider, or open or close its circuits, at all replicas.")
logs_app = typer.Typer(help="Show or set the level of the log of a replica.")

Provider: TypeAlias = Annotated[str, typer.Argument(help="Name of the provider.")]
Note: TypeAlias = Annotated[str, typer.Option(help="Why, for other operators; at most 200 characters.")]


class CallbackState(StrEnum):
    """State of a callback."""

    pending = "pending"
    delivered = "delivered"
    gave_up = "gave_up"


class Level(StrEnum):
    """Level of the log; `configured` undoes an earlier change."""

    debug = "debug"
    info = "info"
    warning = "warning"
    error = "error"
    configured = "configured"


@callbacks_app.command("list")
def list_callbacks(
    context: typer.Context,
    *,
    state: Annotated[CallbackState, typer.Option(help="State of the callbacks.")] = CallbackState.gave_up,
    limit: Annotated[int, typer.Option(min=1, help="Largest number of runs.")] = 1000,
    as_json: AsJson = False,
    ops_url: OpsUrl = DEFAULT_OPS_URL,
    ops_key: OpsKey = None,
    ops_key_file: OpsKeyFile = None,
) -> None:
    """List the ids of runs by the state of their callback, by default those that were abandoned.

    Exit code 2: the gateway could not be reached, or refused it.
    """
    from gateway.cli.operations.callbacks import list_callbacks

    client = connect(context, ops_url, ops_key, ops_key_file)
    list_callbacks(client, state.value, limit, as_json=as_json)


@callbacks_app.command("replay")
def replay_callbacks(
    context: typer.Context,
    run_ids: Annotated[
        list[str] | None, typer.Argument(help="Ids of the runs whose callbacks are redelivered.")
    ] = None,
    *,
    given_up: Annotated[bool, typer.Option("--given-up", help="All runs whose callback was abandoned.")] = False,
    limit: Annotated[int, typer.Option(min=1, help="Largest number of these.")] = 1000,
    as_json: AsJson = False,
    ops_url: OpsUrl = DEFAULT_OPS_URL,
    ops_key: OpsKey = None,
    ops_key_file: OpsKeyFile = None,
) -> None:
    """Redeliver callbacks, starting now, with their whole schedule.

    Exit code 0: they are due. 1: a run has no callback. 2: the gateway could not be reached, or refused it.
    """
    from gateway.cli.operations.callbacks import replay

    client = connect(context, ops_url, ops_key, ops_key_file)
    replay(client, run_ids or [], given_up=given_up, limit=limit, as_json=as_json)


@callbacks_app.command("test")
def send_test_callback(
    url: Annotated[str, typer.Argument(help="The callback URL.")],
    context: typer.Context,
    *,
    as_json: AsJson = False,
    ops_url: OpsUrl = DEFAULT_OPS_URL,
    ops_key: OpsKey = None,
    ops_key_file: OpsKeyFile = None,
) -> None:
    """Send a test message to a callback URL, checked, signed and sent as a callback is, once.

    Exit code 0: the receiver accepted it. 1: it did not, or the URL is not allowed. 2: the gateway could not be
    reached, or refused it.
    """
    from gateway.cli.operations.callbacks import send_test

    send_test(connect(context, ops_url, ops_key, ops_key_file), url, as_json=as_json)


@callbacks_app.command("recover")
def recover_callbacks(
    context: typer.Context,
    *,
    since: Annotated[str, typer.Option(help="Of runs that ended then or later, such as 2026-11-21T12:00:00Z.")],
    host: Annotated[str | None, typer.Option(help="Callbacks of this receiver only.")] = None,
    go: Annotated[bool, typer.Option("--go", help="Deliver them; without it they are only counted.")] = False,
    as_json: AsJson = False,
    ops_url: OpsUrl = DEFAULT_OPS_URL,
    ops_key: OpsKey = None,
    ops_key_file: OpsKeyFile = None,
) -> None:
    """Count the callbacks that were abandoned since a time, by receiver, or deliver them again.

    Exit code 2: the gateway could not be reached, or refused it.
    """
    from gateway.cli.operations.callbacks import recover

    recover(connect(context, ops_url, ops_key, ops_key_file), since, host, go=go, as_json=as_json)


@providers_app.command("list")
def list_providers(
    context: typer.Context,
    *,
    as_json: AsJson = False,
    ops_url: OpsUrl = DEFAULT_OPS_URL,
    ops_key: OpsKey = None,
    ops_key_file: OpsKeyFile = None,
) -> None:
    """List the providers: mode, since when, circuits that are not closed, note."""
    from gateway.cli.operations.providers import list_providers

    list_providers(connect(context, ops_url, ops_key, ops_key_file), as_json=as_json)


@providers_app.command("suspend")
def suspend_provider(
    provider: Provider,
    context: typer.Context,
    *,
    note: Note = "",
    as_json: AsJson = False,
    ops_url: OpsUrl = DEFAULT_OPS_URL,
    ops_key: OpsKey = None,
    ops_key_file: OpsKeyFile = None,
) -> None:
    """Send no more starts to a provider, until `auto`: background runs wait, others fall back or are refused.

    Runs that were started are polled to their end. Exit code 1: there is no such provider. 2: the gateway could not be
    reached, or refused it. So for the other commands.
    """
    from gateway.cli.operations.providers import set_mode

    client = connect(context, ops_url, ops_key, ops_key_file)
    set_mode(client, provider, "suspended", note, as_json=as_json)


@providers_app.command("open")
def open_circuits(
    provider: Provider,
    context: typer.Context,
    *,
    note: Note = "",
    as_json: AsJson = False,
    ops_url: OpsUrl = DEFAULT_OPS_URL,
    ops_key: OpsKey = None,
    ops_key_file: OpsKeyFile = None,
) -> None:
    """Open all circuits of a provider, until `auto`: its runs fall back or are refused, those in the background too."""
    from gateway.cli.operations.providers import set_mode

    client = connect(context, ops_url, ops_key, ops_key_file)
    set_mode(client, provider, "open", note, as_json=as_json)


@providers_app.command("close")
def close_circuits(
    provider: Provider,
    context: typer.Context,
    *,
    note: Note = "",
    as_json: AsJson = False,
    ops_url: OpsUrl = DEFAULT_OPS_URL,
    ops_key: OpsKey = None,
    ops_key_file: OpsKeyFile = None,
) -> None:
    """Let no circuit breaker of a provider refuse a start, until `auto`."""
    from gateway.cli.operations.providers import set_mode

    client = connect(context, ops_url, ops_key, ops_key_file)
    set_mode(client, provider, "closed", note, as_json=as_json)


@providers_app.command("auto")
def undo_override(
    provider: Provider,
    context: typer.Context,
    *,
    as_json: AsJson = False,
    ops_url: OpsUrl = DEFAULT_OPS_URL,
    ops_key: OpsKey = None,
    ops_key_file: OpsKeyFile = None,
) -> None:
    """Undo suspend, open or close: the circuit breakers of the provider decide again."""
    from gateway.cli.operations.providers import set_mode

    client = connect(context, ops_url, ops_key, ops_key_file)
    set_mode(client, provider, "auto", "", as_json=as_json)


@logs_app.callback()
def logs() -> None:
    """Show or set the level of the log of a replica."""


@logs_app.command("level")
def log_level(
    context: typer.Context,
    level: Annotated[Level | None, typer.Argument(help="The new level; without it, the level is shown.")] = None,
    *,
    duration: Annotated[
        str | None, typer.Option("--for", help="Time after which the configured level is back, such as 10m.")
    ] = None,
    as_json: AsJson = False,
    ops_url: OpsUrl = DEFAULT_OPS_URL,
    ops_key: OpsKey = None,
    ops_key_file: OpsKeyFile = None,
) -> None:
    """Show the level of the log of a replica, with all its worker processes, or set it until `configured`.

    Exit code 2: the gateway could not be reached, or refused it.
    """
    from gateway.cli.operations.logs import show_or_set_level

    client = connect(context, ops_url, ops_key, ops_key_file)
    show_or_set_level(client, None if level is None else level.value, duration, as_json=as_json)
