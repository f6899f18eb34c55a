"""Commands of `runward keys` about stored keys. Exit codes as in `gateway.cli.operations.commands`."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, TypeAlias

import typer

from gateway.cli.operations.options import DEFAULT_OPS_URL, AsJson, OpsKey, OpsKeyFile, OpsUrl, connect

KeyId: TypeAlias = Annotated[str, typer.Argument(help="Id of the key: key_…, as `runward keys list` prints it.")]
_ONLY_STORED = "needs --name: without a name, the key is for the configuration, which has no such setting"


class Kept(StrEnum):
    """Values of --keep."""

    CURRENT = "current"
    PREVIOUS = "previous"


def add_key_commands(app: typer.Typer) -> None:
    """Add the commands to a group."""
    app.command("new")(new_key)
    app.command("list")(list_keys)
    app.command("rotate")(rotate_key)
    app.command("revoke")(revoke_key)
    app.command("expire")(expire_key)
    app.command("check")(check_key)


def new_key(
    context: typer.Context,
    client: Annotated[str, typer.Option(help="Name of the client.")] = "my-app",
    expires: Annotated[str | None, typer.Option(help="Expiry: a date, or a date and time.", metavar="DATE")] = None,
    *,
    name: Annotated[
        str | None, typer.Option(help="What the key is for: creates a stored key at the gateway.", metavar="TEXT")
    ] = None,
    workflows: Annotated[
        list[str] | None,
        typer.Option("--workflow", metavar="PATTERN", help="Scope within that of the client. Repeatable."),
    ] = None,
    rate: Annotated[str | None, typer.Option(help="Rate of starts: 50/s, 100/m, 10/h.")] = None,
    burst: Annotated[int | None, typer.Option(help="Starts at once; needs --rate.")] = None,
    concurrency: Annotated[int | None, typer.Option(help="Runs in flight.")] = None,
    daily: Annotated[int | None, typer.Option(help="Runs per UTC day.")] = None,
    as_json: AsJson = False,
    ops_url: OpsUrl = DEFAULT_OPS_URL,
    ops_key: OpsKey = None,
    ops_key_file: OpsKeyFile = None,
) -> None:
    """Create a key. The key is printed to standard output, all else to standard error.

    With --name, a running gateway stores the hash of the key, which works at once at every replica. Without it, no
    gateway is asked, and the lines for the configuration are printed.
    """
    limits: dict[str, str | int | None] = {"rate": rate, "burst": burst, "concurrency": concurrency, "daily": daily}
    given = {option: value for option, value in limits.items() if value is not None}
    if name is None:
        from gateway.cli.keys import print_new_key

        only_stored = [*(["--workflow"] if workflows else []), *(f"--{option}" for option in given)]
        if only_stored or as_json:
            raise typer.BadParameter(_ONLY_STORED, param_hint=(only_stored or ["--json"])[0])
        print_new_key(client, expires)
        return
    from gateway.cli.operations import keys

    port = connect(context, ops_url, ops_key, ops_key_file)
    keys.create(port, client, name, workflows=workflows or (), expires=expires, limits=given, as_json=as_json)


def list_keys(
    context: typer.Context,
    *,
    client: Annotated[str | None, typer.Option(help="Keys of this client; by default of all.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="Most keys that are printed.")] = 100,
    as_json: AsJson = False,
    ops_url: OpsUrl = DEFAULT_OPS_URL,
    ops_key: OpsKey = None,
    ops_key_file: OpsKeyFile = None,
) -> None:
    """List the stored keys, the newest first. Those of the configuration are in its file.

    Exit code 2: the gateway could not be reached, or refused it. So for the other commands.
    """
    from gateway.cli.operations import keys

    keys.list_keys(connect(context, ops_url, ops_key, ops_key_file), client, limit, as_json=as_json)


def rotate_key(
    key_id: KeyId,
    context: typer.Context,
    *,
    grace: Annotated[
        str, typer.Option(help="Time for which the previous text stays valid: 0 to 7d.", metavar="DURATION")
    ] = "24h",
    keep: Annotated[
        Kept | None, typer.Option(help="Which of two valid keys stays so, while an earlier grace runs.")
    ] = None,
    as_json: AsJson = False,
    ops_url: OpsUrl = DEFAULT_OPS_URL,
    ops_key: OpsKey = None,
    ops_key_file: OpsKeyFile = None,
) -> None:
    """Replace the text of a key: the new one is printed to standard output, and both work for the grace.

    Exit code 1: there is no such key, it has ended, or an earlier grace runs.
    """
    from gateway.cli.operations import keys

    client = connect(context, ops_url, ops_key, ops_key_file)
    keys.rotate(client, key_id, grace, None if keep is None else keep.value, as_json=as_json)


def revoke_key(
    key_id: KeyId,
    context: typer.Context,
    *,
    as_json: AsJson = False,
    ops_url: OpsUrl = DEFAULT_OPS_URL,
    ops_key: OpsKey = None,
    ops_key_file: OpsKeyFile = None,
) -> None:
    """End a key at every replica within two seconds. Its runs in progress end. May be repeated.

    Exit code 1: there is no such key.
    """
    from gateway.cli.operations import keys

    keys.revoke(connect(context, ops_url, ops_key, ops_key_file), key_id, as_json=as_json)


def expire_key(
    key_id: KeyId,
    at: Annotated[str, typer.Argument(help="A date, a date and time, or `never`.", metavar="DATE")],
    context: typer.Context,
    *,
    as_json: AsJson = False,
    ops_url: OpsUrl = DEFAULT_OPS_URL,
    ops_key: OpsKey = None,
    ops_key_file: OpsKeyFile = None,
) -> None:
    """Set the expiry of a key. May be repeated.

    Exit code 1: there is no such key, or it is revoked.
    """
    from gateway.cli.operations import keys

    keys.expire(connect(context, ops_url, ops_key, ops_key_file), key_id, at, as_json=as_json)


def check_key(
    context: typer.Context,
    *,
    as_json: AsJson = False,
    ops_url: OpsUrl = DEFAULT_OPS_URL,
    ops_key: OpsKey = None,
    ops_key_file: OpsKeyFile = None,
) -> None:
    """Read a key from standard input, and say whether the gateway accepts it, and why not.

    Exit code 1: it does not.
    """
    from gateway.cli.operations import keys

    keys.check(connect(context, ops_url, ops_key, ops_key_file), as_json=as_json)
