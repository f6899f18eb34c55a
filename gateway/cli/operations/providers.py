"""`runward providers`: the circuits of providers, and what operators have set for their starts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from urllib.parse import quote

import typer

from gateway.cli.errors import CliError, sanitize_for_terminal
from gateway.cli.operations.client import OpsClient
from providers.contract import JsonValue

_COLUMNS = ("PROVIDER", "MODE", "SINCE", "CIRCUITS NOT CLOSED", "NOTE")


def list_providers(ops_url: str, key: str = "") -> None:
    """Print a table of all providers. Raises CliError with exit code 2 if the gateway cannot be reached."""
    _, page = OpsClient(ops_url, key).request("GET", "/providers")
    providers = page.get("providers")
    rows = [_row(each) for each in providers if isinstance(each, dict)] if isinstance(providers, list) else []
    _print_table([_COLUMNS, *rows])


def set_mode(ops_url: str, provider: str, mode: str, note: str, key: str = "") -> None:
    """Set the mode of a provider at all replicas: suspended, open, closed or auto; prints the provider.

    Raises CliError: exit code 1 if no provider has this name, 2 if the gateway cannot be reached. May be repeated.
    """
    path = f"/providers/override/{quote(provider, safe='')}"
    status, document = OpsClient(ops_url, key).request("POST", path, {"mode": mode, "note": note})
    if status != 200:
        raise CliError(f"no provider is called {sanitize_for_terminal(provider)}", exit_code=1)
    _print_table([_COLUMNS, _row(document)])


def _row(provider: Mapping[str, JsonValue]) -> Sequence[str]:
    circuits = provider.get("circuits")
    failing = _not_closed(circuits) if isinstance(circuits, dict) else ()
    texts = (provider.get("provider"), provider.get("mode"), provider.get("since") or "-")
    return [sanitize_for_terminal(str(t)) for t in (*texts, ", ".join(failing) or "-", provider.get("note") or "-")]


def _not_closed(circuits: Mapping[str, JsonValue]) -> Iterator[str]:
    return (f"{workflow} {state}" for workflow, state in sorted(circuits.items()) if state != "closed")


def _print_table(rows: Sequence[Sequence[str]]) -> None:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        typer.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
