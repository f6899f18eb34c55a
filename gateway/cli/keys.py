"""`runward keys`: a new key, and the hash by which the configuration knows it."""

from __future__ import annotations

import getpass
import sys

import typer

from gateway import key_format
from gateway.auth import keys
from gateway.cli.errors import CliError
from gateway.clock import SystemClock
from gateway.settings.field_types import check_name, parse_timestamp

_MAX_KEY_LENGTH = 10_000


def print_new_key(client: str, expires: str | None) -> None:
    """Print a new key to standard output and, beside it, the lines for the configuration."""
    try:
        check_name(client)
        expires_at = parse_timestamp(expires).isoformat().replace("+00:00", "Z") if expires else None
    except ValueError as error:
        raise CliError(str(error)) from None
    key = keys.new_key(SystemClock())
    typer.echo(key)
    typer.echo(
        f"\nThis is the only time that the key is seen: give it to {client}, and to nobody else.\n"
        f"The configuration has its hash:\n\n{_config_snippet(client, keys.hash_key(key), expires_at)}",
        err=True,
    )


def _config_snippet(client: str, key_hash: str, expires_at: str | None) -> str:
    expires = f"\n        expires: {expires_at}" if expires_at else ""
    return f'clients:\n  {client}:\n    keys:\n      - hash: {key_hash}{expires}\n    workflows: ["*"]'


def print_hash_of_stdin() -> None:
    """Print the hash of the key on standard input; on a terminal it is asked for, and not shown."""
    key = getpass.getpass("Key: ") if sys.stdin.isatty() else sys.stdin.readline(_MAX_KEY_LENGTH)
    key = key.strip()
    if not key:
        raise CliError("there is no key on standard input")
    warn_if_malformed(key)
    typer.echo(keys.hash_key(key))


def warn_if_malformed(key: str) -> None:
    """Say so where a key can not be one that `new` made."""
    if not key_format.is_well_formed(key):
        typer.echo("warning: `runward keys new` did not make this key: is there a typo?", err=True)
