"""`runward run`: runs one workflow. The output goes to standard output, everything else to standard error."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from gateway.cli.errors import CliError, sanitize_for_terminal
from gateway.cli.http_client import GatewayResponse, check_gateway_url, post_run
from gateway.settings.types.addresses import is_plaintext_remote
from providers.contract import JsonValue

_RESPONSE_MARGIN = 30.0  # seconds beyond the deadline of the run for the response to arrive
_MAX_WAIT = 3600.0


def run_and_print(url: str, key: str, request_body: Mapping[str, JsonValue], *, as_json: bool) -> None:
    """Request a run, wait for it, print its output (with `as_json`, the response document).

    Raises CliError: exit code 1 if the run did not succeed, 2 if it was not requested.
    """
    url = check_gateway_url(url)
    if is_plaintext_remote(url):
        typer.echo("warning: this URL is plain http, so the key is sent unencrypted", err=True)
    response = _post_with_progress(url, key, request_body)
    if as_json:
        _print_text(response.body.decode("utf-8", "replace"))
    if response.status != 200 or response.document is None:
        raise CliError(format_problem(response), exit_code=1)
    if not as_json:
        _print_text(_format_output(response.document))
    typer.echo(_summary(response.document), err=True)


def _post_with_progress(url: str, key: str, request_body: Mapping[str, JsonValue]) -> GatewayResponse:
    body = {name: value for name, value in request_body.items() if value is not None}
    timeout = request_body.get("timeout")
    read_timeout = timeout + _RESPONSE_MARGIN if isinstance(timeout, float) else _MAX_WAIT
    title = escape(sanitize_for_terminal(str(request_body["workflow"])))
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        progress.add_task(f"running {title}", total=None)
        try:
            return post_run(url, key, body, read_timeout)
        except KeyboardInterrupt:
            raise CliError("interrupted; outcome: unknown, as the run may continue", exit_code=130) from None


def format_problem(response: GatewayResponse) -> str:
    """Format a problem document as one line: code, detail, and the members about the run."""
    problem = response.document
    if problem is None or "code" not in problem:
        return f"status {response.status}, not a response of Runward: check --url"
    known = [f"{name}: {problem[name]}" for name in ("outcome", "run_id", "request_id") if name in problem]
    if problem.get("retryable"):
        known.append("may be retried")
    errors = _format_field_errors(problem.get("errors"))
    line = f"{problem['code']}: {problem.get('detail', '')}{errors} ({', '.join(known)})"
    return sanitize_for_terminal(line.replace("\n", " "))


def _format_field_errors(errors: JsonValue) -> str:
    found = [e for e in errors if isinstance(e, dict)] if isinstance(errors, list) else []
    return "".join(f" {e.get('pointer')}: {e.get('detail')};" for e in found).removesuffix(";")


def _format_output(run: Mapping[str, JsonValue]) -> str:
    if "outputs" in run:
        return _format_json({"output": run.get("output"), "outputs": run["outputs"]})
    output = run.get("output")
    return output if isinstance(output, str) else _format_json(output)


def _format_json(value: JsonValue) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)


def _print_text(text: str) -> None:
    # A file gets the text unchanged (`color` keeps escape sequences); a terminal would execute them.
    text = _encodable(text, sys.stdout.encoding or "utf-8")
    typer.echo(sanitize_for_terminal(text) if sys.stdout.isatty() else text, color=True)


def _encodable(text: str, encoding: str) -> str:
    """Replace what the encoding lacks by JSON escapes: a paid result must not be lost to the encoding of a terminal."""
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return "".join(_encodable_character(character, encoding) for character in text)
    return text


def _encodable_character(character: str, encoding: str) -> str:
    try:
        character.encode(encoding)
    except UnicodeEncodeError:
        return json.dumps(character)[1:-1]
    return character


def _summary(run: Mapping[str, JsonValue]) -> str:
    seconds = run.get("duration_ms")
    parts = [
        f"succeeded in {seconds / 1000:.1f} s" if isinstance(seconds, int | float) else "succeeded",
        f"at {run.get('provider')}",
        f"attempts: {run.get('attempts')}",
        f"run: {run.get('id')}",
    ]
    if run.get("warning"):
        parts.append(f"warning: {run['warning']}")
    return sanitize_for_terminal(", ".join(parts).replace("\n", " "))
