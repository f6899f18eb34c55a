"""`runward run`: one run, watched from the terminal. The output goes to standard output, everything else beside it."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from gateway.cli.failure import Failure, visible
from gateway.cli.post import Answer, checked_url, post_run
from gateway.settings.addresses import is_exposed
from providers.contract import JsonValue

_GRACE = 30.0  # the gateway ends a run by its deadline; its answer needs a moment more
_LONGEST = 3600.0


def run_and_print(url: str, key: str, asked: Mapping[str, JsonValue], *, whole: bool) -> None:
    """Ask for a run, wait, print its output (or, with `whole`, the answer as it came).

    Raises Failure with exit code 1 where the run did not succeed, 2 where it was not asked for.
    """
    url = checked_url(url)
    if is_exposed(url):
        typer.echo("warning: the key travels in the clear, as this URL is plain http", err=True)
    answer = _wait(url, key, asked)
    if whole:
        _print(answer.body.decode("utf-8", "replace"))
    if answer.status != 200 or answer.document is None:
        raise Failure(problem_line(answer), exit_code=1)
    if not whole:
        _print(_output(answer.document))
    typer.echo(_summary(answer.document), err=True)


def _wait(url: str, key: str, asked: Mapping[str, JsonValue]) -> Answer:
    sent = {name: value for name, value in asked.items() if value is not None}
    timeout = asked.get("timeout")
    patience = timeout + _GRACE if isinstance(timeout, float) else _LONGEST
    title = escape(visible(str(asked["workflow"])))
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        progress.add_task(f"running {title}", total=None)
        try:
            return post_run(url, key, sent, patience)
        except KeyboardInterrupt:
            raise Failure("nobody waits any more; outcome: unknown, as the run may go on", exit_code=130) from None


def problem_line(answer: Answer) -> str:
    """Say in one line why a run did not succeed: its code and detail, and what is known of it."""
    problem = answer.document
    if problem is None or "code" not in problem:
        return f"status {answer.status}, and no answer that Runward gives: is --url right?"
    known = [f"{name}: {problem[name]}" for name in ("outcome", "run_id", "request_id") if name in problem]
    if problem.get("retryable"):
        known.append("may be sent again")
    line = f"{problem['code']}: {problem.get('detail', '')}{_pointers(problem.get('errors'))} ({', '.join(known)})"
    return visible(line.replace("\n", " "))


def _pointers(errors: JsonValue) -> str:
    found = [e for e in errors if isinstance(e, dict)] if isinstance(errors, list) else []
    return "".join(f" {e.get('pointer')}: {e.get('detail')};" for e in found).removesuffix(";")


def _output(run: Mapping[str, JsonValue]) -> str:
    if "outputs" in run:
        return _pretty({"output": run.get("output"), "outputs": run["outputs"]})
    output = run.get("output")
    return output if isinstance(output, str) else _pretty(output)


def _pretty(value: JsonValue) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)


def _print(text: str) -> None:
    # A file gets what was sent (`color`: all of it); a terminal would obey it.
    typer.echo(visible(text) if sys.stdout.isatty() else text, color=True)


def _summary(run: Mapping[str, JsonValue]) -> str:
    seconds = run.get("duration_ms")
    words = [
        f"succeeded in {seconds / 1000:.1f} s" if isinstance(seconds, int | float) else "succeeded",
        f"at {run.get('provider')}",
        f"attempts: {run.get('attempts')}",
        f"run: {run.get('id')}",
    ]
    if run.get("warning"):
        words.append(f"warning: {run['warning']}")
    return visible(", ".join(words).replace("\n", " "))
