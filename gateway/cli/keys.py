"""`runward keys`: new gateway keys, and their hashes for the configuration."""

from __future__ import annotations

import getpass
import sys

import typer

from gateway import key_format
from gateway.auth import keys
from gateway.cli.errors import CliError, sanitize_for_terminal
from gateway.clock import SystemClock
from gateway.settings.types.fields import check_name, parse_timestamp

_MAX_KEY_LENGTH = 10_000


def print_new_key(client: str, expires: str | None) -> None:
    """Print a new key to standard output, and the lines for the configuration to standard error."""
    try:
        check_name(client)
    except ValueError as error:
        raise CliError(f"--client {sanitize_for_terminal(client)}: {error}") from None
    try:
        expires_at = parse_timestamp(expires).isoformat().replace("+00:00", "Z") if expires else None
    except ValueError as error:
        raise CliError(f"--expires: {error}") from None
    key = keys.new_key(SystemClock())
    typer.echo(key)
    typer.echo(
        f"\nThe key is shown only once: give it to {client} alone.\n"
        f"Add its hash to the configuration:\n\n{_config_snippet(client, keys.hash_key(key), expires_at)}",
        err=True,
    )


def _config_snippet(client: str, key_hash: str, expires_at: str | None) -> str:
    expires = f"\n        expires: {expires_at}" if expires_at else ""
    return f'clients:\n  {client}:\n    keys:\n      - hash: {key_hash}{expires}\n    workflows: ["*"]'


def print_hash_of_stdin() -> None:
    """Print the hash of the key on standard input."""
    typer.echo(keys.hash_key(read_key_of_stdin()))


def read_key_of_stdin() -> str:
    """Return the key on standard input; on a terminal, prompt for it without echo. Raises CliError without one."""
    key = getpass.getpass("Key: ") if sys.stdin.isatty() else sys.stdin.readline(_MAX_KEY_LENGTH)
    key = key.strip()
    if not key:
        raise CliError("no key on standard input")
    warn_if_malformed(key)
    return key


def warn_if_malformed(key: str) -> None:
    """Print a warning if the key does not have the form of `runward keys new`."""
    if not key_format.is_well_formed(key):
        typer.echo("warning: this key was not made by `runward keys new`, or has a typo", err=True)
