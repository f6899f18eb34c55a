"""`runward providers`: the circuits of providers, and what operators have set for their starts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from gateway.cli.errors import CliError, sanitize_for_terminal
from gateway.cli.operations.client import OpsClient, OpsProblem
from gateway.cli.operations.output import print_json, print_table

if TYPE_CHECKING:
    from providers.contract import JsonValue

_COLUMNS = ("PROVIDER", "MODE", "SINCE", "CIRCUITS NOT CLOSED", "NOTE")


def list_providers(client: OpsClient, *, as_json: bool) -> None:
    """Print a table of all providers, or a JSON line for each. Raises CliError."""
    listed = client.get("providers").get("providers")
    providers = [each for each in listed if isinstance(each, dict)] if isinstance(listed, list) else []
    if as_json:
        for provider in providers:
            print_json(provider)
    else:
        print_table(_COLUMNS, map(_row, providers))


def set_mode(client: OpsClient, provider: str, mode: str, note: str, *, as_json: bool) -> None:
    """Set the mode of a provider at all replicas: suspended, open, closed or auto; prints the provider.

    Raises CliError: exit code 1 if no provider has this name. May be repeated.
    """
    try:
        document = client.post("providers", "override", provider, body={"mode": mode, "note": note})
    except OpsProblem as problem:
        if problem.code != "provider_not_found":
            raise
        raise CliError(f"no provider is called {sanitize_for_terminal(provider)}", exit_code=1) from None
    if as_json:
        print_json(document)
    else:
        print_table(_COLUMNS, [_row(document)])


def _row(provider: Mapping[str, JsonValue]) -> Sequence[object]:
    circuits = provider.get("circuits")
    failing = _not_closed(circuits) if isinstance(circuits, dict) else ()
    return *(provider.get(name) for name in ("provider", "mode", "since")), ", ".join(failing), provider.get("note")


def _not_closed(circuits: Mapping[str, JsonValue]) -> Iterator[str]:
    return (f"{workflow} {state}" for workflow, state in sorted(circuits.items()) if state != "closed")
