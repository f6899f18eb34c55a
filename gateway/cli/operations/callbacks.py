"""`runward callbacks`: redelivery of abandoned callbacks (dead letters) by a running gateway."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from urllib.parse import quote, urlencode

import typer

from gateway.cli.errors import CliError, sanitize_for_terminal
from gateway.cli.operations.client import OpsClient
from providers.contract import JsonValue


def replay(ops_url: str, run_ids: Sequence[str], *, given_up: bool, limit: int, key: str = "") -> None:
    """Make the callbacks of these runs due now, or with `given_up` those of at most `limit` abandoned callbacks.

    Prints the id of each run whose callback is due. Raises CliError: exit code 1 if a run has none, 2 if the gateway
    cannot be reached. May be repeated: receivers recognize a redelivery by its `webhook-id`.
    """
    if given_up == bool(run_ids):
        raise CliError("give run ids, or --given-up for all abandoned callbacks")
    client = OpsClient(ops_url, key)
    missing, due = [], 0
    for run_id in _iter_given_up(client, limit) if given_up else run_ids:
        if _replay(client, run_id):
            due += 1
            typer.echo(sanitize_for_terminal(run_id))
        else:
            missing.append(sanitize_for_terminal(run_id))
    typer.echo(f"due now: {due}", err=True)
    if missing:
        raise CliError(
            f"no callback to deliver: {', '.join(missing)} (the run has no callback_url, has not ended, or was purged)",
            exit_code=1,
        )


def _iter_given_up(client: OpsClient, limit: int) -> Iterator[str]:
    """Yield at most `limit` run ids whose callback was abandoned."""
    after: JsonValue = ""
    while isinstance(after, str):
        _, page = client.request("GET", "/callbacks?" + urlencode({"state": "gave_up", "after": after}))
        runs = page.get("runs")
        for run_id in runs if isinstance(runs, list) else ():
            if limit <= 0:
                typer.echo("there are more: repeat the command, or raise --limit", err=True)
                return
            limit -= 1
            yield str(run_id)
        after = page.get("next")


def _replay(client: OpsClient, run_id: str) -> bool:
    """Make one callback due; returns False if the run has none."""
    status, _ = client.request("POST", f"/callbacks/replay/{quote(run_id, safe='')}")
    return status == 202
