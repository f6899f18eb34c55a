"""`runward keys`: stored keys of clients, at a running gateway."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import typer

from gateway.cli.errors import CliError, sanitize_for_terminal
from gateway.cli.keys import read_key_of_stdin
from gateway.cli.operations.client import OpsClient
from gateway.cli.operations.output import print_json, print_table
from gateway.cli.operations.paging import iter_list

if TYPE_CHECKING:
    from providers.contract import JsonValue

_PATH = ("api", "keys")
_COLUMNS = ("KEY", "CLIENT", "NAME", "STATE", "WORKFLOWS", "EXPIRES", "LAST USED", "CREATED BY")
_LIMITS = ("rate", "burst", "concurrency", "daily")


def create(
    client: OpsClient,
    of_client: str,
    name: str,
    *,
    workflows: Sequence[str],
    expires: str | None,
    limits: Mapping[str, JsonValue],
    as_json: bool,
) -> None:
    """Create a key and print it. Raises CliError."""
    body: dict[str, JsonValue] = {"client": of_client, "name": name, "limits": dict(limits)}
    if workflows:
        body["workflows"] = list(workflows)
    if expires is not None:
        body["expires"] = expires
    _print_new(client.post(*_PATH, body=body), as_json=as_json)


def rotate(client: OpsClient, key_id: str, grace: str, keep: str | None, *, as_json: bool) -> None:
    """Rotate a key and print the new one. Raises CliError."""
    body: dict[str, JsonValue] = {"grace": grace, **({} if keep is None else {"keep": keep})}
    document = client.post(*_PATH, key_id, "rotate", body=body)
    _print_new(document, as_json=as_json)
    until = document.get("previous_until")
    if not as_json and isinstance(until, str):
        typer.echo(f"The previous text is valid until {sanitize_for_terminal(until)}.", err=True)


def revoke(client: OpsClient, key_id: str, *, as_json: bool) -> None:
    """Revoke a key and print what is known of it. Raises CliError. May be repeated."""
    _print([client.post(*_PATH, key_id, "revoke")], as_json=as_json)


def expire(client: OpsClient, key_id: str, at: str, *, as_json: bool) -> None:
    """Set the expiry of a key, `never` removes it; prints the key. Raises CliError. May be repeated."""
    _print([client.post(*_PATH, key_id, "expire", body={"at": None if at == "never" else at})], as_json=as_json)


def list_keys(client: OpsClient, of_client: str | None, limit: int, *, as_json: bool) -> None:
    """Print a table of keys, or a JSON line for each. Raises CliError."""
    query = {"client": of_client, "limit": min(limit, 100)}
    found = iter_list(client, *_PATH, member="keys", cursor="before", limit=limit, more="--limit", query=query)
    keys = (each for each in found if isinstance(each, dict))
    if as_json:
        for key in keys:
            print_json(key)
    else:
        _print(list(keys), as_json=False)


def check(client: OpsClient, *, as_json: bool) -> None:
    """Try the key on standard input. Raises CliError: exit code 1 if it is refused."""
    document = client.post(*_PATH, "check", body={"key": read_key_of_stdin()})
    if as_json:
        print_json(document)
    stored = document.get("stored")
    if isinstance(stored, dict) and not as_json:
        _print([stored], as_json=False)
    why = sanitize_for_terminal(str(document.get("why")))
    if document.get("accepted") is not True:
        raise CliError(f"the key is refused: {why}", exit_code=1)
    if not as_json:
        of_client, source = (sanitize_for_terminal(str(document.get(name))) for name in ("client", "source"))
        typer.echo(f"the key is accepted: client {of_client}, from the {source}", err=True)


def _print_new(document: Mapping[str, JsonValue], *, as_json: bool) -> None:
    if as_json:
        print_json(document)
        return
    text = document.get("key")
    if not isinstance(text, str):
        raise CliError("the gateway's answer has no key")
    typer.echo(sanitize_for_terminal(text))
    parts = (document.get("id"), document.get("client"), document.get("name"))
    key_id, client, name = (sanitize_for_terminal(str(part)) for part in parts)
    typer.echo(f"\nThe key is shown only once. It is {key_id}, of client {client}: {name}", err=True)
    limits = document.get("limits")
    given = limits if isinstance(limits, dict) else {}
    for limit in _LIMITS:
        if given.get(limit) is not None:
            typer.echo(f"{limit}: {sanitize_for_terminal(str(given[limit]))}", err=True)


def _print(keys: Sequence[Mapping[str, JsonValue]], *, as_json: bool) -> None:
    if as_json:
        for key in keys:
            print_json(key)
    else:
        print_table(_COLUMNS, map(_row, keys))


def _row(key: Mapping[str, JsonValue]) -> Sequence[object]:
    workflows = key.get("workflows")
    patterns = ", ".join(map(str, workflows)) if isinstance(workflows, list) else "all of the client"
    known = [key.get(name) for name in ("id", "client", "name", "state")]
    return *known, patterns, *(key.get(name) for name in ("expires", "last_used", "created_by"))
