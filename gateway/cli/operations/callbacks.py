"""`runward callbacks`: callbacks of a running gateway by state, and redelivery of abandoned ones (dead letters)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import typer

from gateway.cli.errors import CliError, sanitize_for_terminal
from gateway.cli.operations.client import OpsClient, OpsProblem
from gateway.cli.operations.output import print_json
from gateway.cli.operations.paging import iter_list
from providers.contract import JsonValue

GAVE_UP = "gave_up"


def list_callbacks(client: OpsClient, state: str, limit: int, *, as_json: bool) -> None:
    """Print the ids of at most `limit` runs whose callback has this state; as JSON lines with the state."""
    for run_id in _iter_runs(client, state, limit, "raise --limit"):
        if as_json:
            print_json({"id": run_id, "callback": {"state": state}})
        else:
            typer.echo(sanitize_for_terminal(run_id))


def replay(client: OpsClient, run_ids: Sequence[str], *, given_up: bool, limit: int, as_json: bool) -> None:
    """Make the callbacks of these runs due now, or with `given_up` those of at most `limit` abandoned callbacks.

    Prints the id of each run whose callback is due; as JSON lines the gateway's document, or for a run without a
    callback its id and the error. Raises CliError: exit code 1 if a run has none. May be repeated: receivers recognize
    a redelivery by its `webhook-id`.
    """
    if given_up == bool(run_ids):
        raise CliError("give run ids, or --given-up for all abandoned callbacks")
    missing, due = [], 0
    more = "repeat the command, or raise --limit"
    for run_id in _iter_runs(client, GAVE_UP, limit, more) if given_up else run_ids:
        try:
            document = client.post("callbacks", "replay", run_id)
        except OpsProblem as problem:
            if problem.code != "not_found":
                raise
            missing.append(sanitize_for_terminal(run_id))
            document = {"id": run_id, "error": {"code": problem.code, "detail": problem.detail}}
        else:
            due += 1
            if not as_json:
                typer.echo(sanitize_for_terminal(run_id))
        if as_json:
            print_json(document)
    typer.echo(f"due now: {due}", err=True)
    if missing:
        raise CliError(
            f"no callback to deliver: {', '.join(missing)} (the run has no callback_url, has not ended, or was purged)",
            exit_code=1,
        )


def send_test(client: OpsClient, url: str, *, as_json: bool) -> None:
    """Have a test message sent to a callback URL; prints what became of it, as JSON the gateway's document.

    Raises CliError: exit code 1 if the receiver did not accept it, or if the URL is not allowed.
    """
    try:
        document = client.post("api", "callbacks", "test", body={"url": url})
    except OpsProblem as problem:
        if problem.code != "callback_url_refused":
            raise
        raise CliError(str(problem), exit_code=1) from None
    status, fault = document.get("status"), document.get("fault")
    answer = f"status {status}" if fault is None else f"no status: {fault}"
    if as_json:
        print_json(document)
    else:
        typer.echo(sanitize_for_terminal(f"{answer}, {document.get('duration_ms')} ms, {document.get('webhook_id')}"))
    if document.get("accepted") is not True:
        raise CliError(f"the receiver did not accept the message ({sanitize_for_terminal(answer)})", exit_code=1)


def recover(client: OpsClient, since: str, host: str | None, *, go: bool, as_json: bool) -> None:
    """Count the callbacks that were given up, of runs that ended since a time; with `go`, deliver them again.

    Prints their number, and that of each receiver; as JSON the gateway's document.
    """
    body: dict[str, JsonValue] = {"since": since, "dry_run": not go}
    document = client.post("api", "callbacks", "recover", body=body if host is None else {**body, "host": host})
    if as_json:
        print_json(document)
        return
    hosts = document.get("hosts")
    for each in hosts if isinstance(hosts, list) else ():
        if isinstance(each, dict):
            typer.echo(sanitize_for_terminal(f"{each.get('count')}\t{each.get('host')}"))
    more = "; there are more: repeat the command" if document.get("more") else ""
    due = f"due now: {document.get('due')}" if go else f"given up: {document.get('count')}; add --go to deliver them"
    typer.echo(sanitize_for_terminal(due + more), err=True)


def _iter_runs(client: OpsClient, state: str, limit: int, more: str) -> Iterator[str]:
    """Yield at most `limit` ids of runs whose callback has this state; `more` as of `iter_list`."""
    query = {"state": state}
    return map(str, iter_list(client, "callbacks", member="runs", cursor="after", limit=limit, more=more, query=query))
