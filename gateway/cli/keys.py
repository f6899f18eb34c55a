"""`runward keys`: a new key, and the hash by which the configuration knows it."""

from __future__ import annotations

import getpass
import sys

import typer

from gateway.access import keys
from gateway.cli.failure import Failure
from gateway.clock import SystemClock
from gateway.settings.names import moment, name

_LONGEST = 10_000


def new(client: str, expires: str | None) -> None:
    """Print a new key to standard output and, beside it, the lines for the configuration."""
    try:
        name(client)
        end = moment(expires).isoformat().replace("+00:00", "Z") if expires else None
    except ValueError as error:
        raise Failure(str(error)) from None
    key = keys.new_key(SystemClock())
    typer.echo(key)
    typer.echo(
        f"\nThis is the only time that the key is seen: give it to {client}, and to nobody else.\n"
        f"The configuration has its hash:\n\n{_lines(client, keys.hash_key(key), end)}",
        err=True,
    )


def _lines(client: str, key_hash: str, end: str | None) -> str:
    expires = f"\n        expires: {end}" if end else ""
    return f'clients:\n  {client}:\n    keys:\n      - hash: {key_hash}{expires}\n    workflows: ["*"]'


def hash_from_stdin() -> None:
    """Print the hash of the key on standard input; on a terminal it is asked for, and not shown."""
    key = getpass.getpass("Key: ") if sys.stdin.isatty() else sys.stdin.readline(_LONGEST)
    key = key.strip()
    if not key:
        raise Failure("there is no key on standard input")
    warn_of_typo(key)
    typer.echo(keys.hash_key(key))


def warn_of_typo(key: str) -> None:
    """Say so where a key can not be one that `new` made."""
    if not keys.is_well_formed(key):
        typer.echo("warning: `runward keys new` did not make this key: is there a typo?", err=True)
