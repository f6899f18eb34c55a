"""`runward runs replay`: the plan of a replay, its confirmation, and the progress of its job."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import typer

from gateway.cli.errors import CliError, sanitize_for_terminal
from gateway.cli.operations.client import OpsClient
from gateway.cli.operations.output import print_json
from gateway.clock import Clock, SystemClock

if TYPE_CHECKING:
    from providers.contract import JsonValue

_PATH = ("api", "replays")
_POLL_INTERVAL = 1.0  # seconds
_COSTS = {
    "not_run": "had cost nothing",
    "failed": "each is a new paid run",
    "succeeded": "each is a new paid run",
    "unknown": "each may be paid for twice",
}


def replay_runs(
    client: OpsClient,
    run_ids: Sequence[str],
    conditions: Sequence[str],
    *,
    include_unknown: bool,
    rate: float,
    confirmed: bool,
    as_json: bool,
    clock: Clock | None = None,
) -> None:
    """Print the plan of a replay; once it is confirmed, start its job and print its progress until it has ended.

    `conditions`: NAME=VALUE, by the names of the parameters of a list of runs. Raises CliError: exit code 1 if the
    answer is no, the job was aborted, runs were refused, or named ones were left out and had not been replayed before.
    """
    if bool(run_ids) == bool(conditions):
        raise CliError("give run ids, or --filter NAME=VALUE")
    selection: dict[str, JsonValue] = {"ids": list(run_ids)} if run_ids else {"filter": _parse_conditions(conditions)}
    request: dict[str, JsonValue] = {**selection, "include_unknown": include_unknown, "rate": rate}
    planned = client.post(*_PATH, body=request)
    total = _print_plan(planned)
    if total == 0:
        if as_json:
            print_json(planned)
        if run_ids:
            _check_left_out(planned)
        return
    if not confirmed:
        _confirm(total)
    started = client.post(*_PATH, body={**request, "dry_run": False, "plan": planned.get("id")})
    typer.echo(f"job {_text(started.get('id'))}", err=True)
    _follow(client, started, clock or SystemClock(), as_json=as_json)
    if run_ids:
        _check_left_out(planned)


def show_replay(client: OpsClient, replay_id: str, *, as_json: bool) -> None:
    """Print a plan or job. Raises CliError."""
    _print_replay(client.get(*_PATH, replay_id), as_json=as_json)


def abort_replay(client: OpsClient, replay_id: str, *, as_json: bool) -> None:
    """Stop further starts of a job, and print it. Raises CliError."""
    _print_replay(client.post(*_PATH, replay_id, "abort"), as_json=as_json)


def _parse_conditions(conditions: Sequence[str]) -> dict[str, JsonValue]:
    found: dict[str, list[JsonValue]] = {}
    for condition in conditions:
        name, separator, value = condition.partition("=")
        if not separator or not name:
            raise CliError(f"--filter {sanitize_for_terminal(condition)}: must be NAME=VALUE")
        found.setdefault(name, []).append(value)
    return {name: values if len(values) > 1 else values[0] for name, values in found.items()}


def _print_plan(planned: Mapping[str, JsonValue]) -> int:
    """Print what a plan starts and leaves out; returns the number of starts."""
    plan = _members(planned, "plan")
    for outcome, cost in _COSTS.items():
        if plan.get(outcome):
            typer.echo(f"{_text(plan[outcome])} {outcome}: {cost}", err=True)
    for reason, count in _members(plan, "left_out").items():
        typer.echo(f"{_text(count)} left out: {_text(reason)}", err=True)
    if plan.get("truncated") is True:
        typer.echo("there may be more runs than the plan has: replay them with another plan", err=True)
    total = plan.get("total")
    if not isinstance(total, int) or total == 0:
        typer.echo("nothing to replay", err=True)
        return 0
    price = _members(plan, "price")
    if price and price.get("unpriced") != total:
        unpriced = f", and {_text(price.get('unpriced'))} without a price" if price.get("unpriced") else ""
        typer.echo(f"declared price of all: {_text(price.get('total'))}{unpriced}", err=True)
    return total


def _confirm(total: int) -> None:
    """Ask before the start. Raises CliError if the answer is no, and Abort if there is none."""
    try:
        confirmed = typer.confirm(f"Start {total} {'run' if total == 1 else 'runs'}?", err=True)
    except typer.Abort:
        typer.echo("\nnothing was started; --yes starts without a question", err=True)
        raise
    if not confirmed:
        raise CliError("nothing was started", exit_code=1)


def _follow(client: OpsClient, replay: dict[str, JsonValue], clock: Clock, *, as_json: bool) -> None:
    last = ""
    while True:
        line = _progress_line(replay)
        if line != last:
            typer.echo(line, err=True)
            last = line
        if replay.get("state") != "running":
            break
        asyncio.run(clock.sleep(_POLL_INTERVAL))
        replay = client.get(*_PATH, str(replay.get("id")))
    if as_json:
        print_json(replay)
    if replay.get("state") != "done":
        raise CliError(f"the job is {_text(replay.get('state'))}", exit_code=1)
    refusals = _members(_members(replay, "progress"), "refusals")
    if refusals:
        raise CliError(f"refused: {_counts(refusals)}", exit_code=1)


def _check_left_out(planned: Mapping[str, JsonValue]) -> None:
    """Raise CliError if a plan of named runs leaves some out; one that was replayed before is none of these."""
    left_out = _members(_members(planned, "plan"), "left_out")
    left_out.pop("already_replayed", None)
    if left_out:
        raise CliError(f"not replayed: {_counts(left_out)}", exit_code=1)


def _counts(by_reason: Mapping[str, JsonValue]) -> str:
    return ", ".join(f"{_text(count)} {_text(reason)}" for reason, count in by_reason.items())


def _print_replay(replay: dict[str, JsonValue], *, as_json: bool) -> None:
    if as_json:
        print_json(replay)
    else:
        typer.echo(_progress_line(replay))


def _progress_line(replay: Mapping[str, JsonValue]) -> str:
    progress = _members(replay, "progress")
    names = ("started", "already_started", "refused", "left")
    numbers = ", ".join(f"{_text(progress.get(name))} {name.replace('_', ' ')}" for name in names)
    return f"{_text(replay.get('state'))}: {numbers}"


def _members(document: Mapping[str, JsonValue], name: str) -> dict[str, JsonValue]:
    found = document.get(name)
    return found if isinstance(found, dict) else {}


def _text(value: JsonValue) -> str:
    return sanitize_for_terminal(str(value)).replace("\n", " ")
