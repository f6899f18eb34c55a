"""`runward callbacks`: redelivery of abandoned callbacks (dead letters) by a running gateway."""

from __future__ import annotations

import http.client
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from typing import Literal
from urllib.parse import quote, urlencode, urlsplit

import typer

from gateway.cli.errors import CliError, sanitize_for_terminal
from gateway.json import strict_json
from gateway.settings.types.addresses import check_base_url
from providers.contract import JsonValue

_TIMEOUT = 30.0


def replay(ops_url: str, run_ids: Sequence[str], *, given_up: bool, limit: int, key: str = "") -> None:
    """Make the callbacks of these runs due now, or with `given_up` those of at most `limit` abandoned callbacks.

    Prints the id of each run whose callback is due. Raises CliError: exit code 1 if a run has none, 2 if the gateway
    cannot be reached. May be repeated: receivers recognize a redelivery by its `webhook-id`.
    """
    if given_up == bool(run_ids):
        raise CliError("give run ids, or --given-up for all abandoned callbacks")
    ops_client = _OpsClient(ops_url, key)
    missing, due = [], 0
    for run_id in ops_client.iter_given_up(limit) if given_up else run_ids:
        if ops_client.replay(run_id):
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


class _OpsClient:
    """Client of the operations port."""

    def __init__(self, url: str, key: str) -> None:
        self._headers = {
            "Content-Type": "application/json",
            "User-Agent": f"runward-cli/{version('runward')}",
            **({"Authorization": f"Bearer {key}"} if key else {}),
        }
        try:
            self._url = check_base_url(url)
        except ValueError as error:
            raise CliError(f"--ops-url {error}") from None

    def iter_given_up(self, limit: int) -> Iterator[str]:
        """Yield at most `limit` run ids whose callback was abandoned."""
        after: JsonValue = ""
        while isinstance(after, str):
            _, page = self._request("GET", "/callbacks?" + urlencode({"state": "gave_up", "after": after}))
            runs = page.get("runs")
            for run_id in runs if isinstance(runs, list) else ():
                if limit <= 0:
                    typer.echo("there are more: repeat the command, or raise --limit", err=True)
                    return
                limit -= 1
                yield str(run_id)
            after = page.get("next")

    def replay(self, run_id: str) -> bool:
        """Make one callback due; returns False if the run has none."""
        status, _ = self._request("POST", f"/callbacks/replay/{quote(run_id, safe='')}")
        return status == 202

    def _request(self, method: Literal["GET", "POST"], path: str) -> tuple[int, dict[str, JsonValue]]:
        """Send a request; returns status and document. Raises CliError unless the response is one of these routes'."""
        status, body = self._send(method, path)
        try:
            document = strict_json.read(body)
        except strict_json.NotJson:
            document = None
        if not isinstance(document, dict) or document.get("code") in {"unknown_route", "method_not_allowed"}:
            raise CliError(f"status {status}, not a response of the operations port: check --ops-url")
        if status in {200, 202} or document.get("code") == "not_found":
            return status, document
        raise CliError(sanitize_for_terminal(f"{document.get('code')}: {document.get('detail')}".replace("\n", " ")))

    def _send(self, method: str, path: str) -> tuple[int, bytes]:
        parts = urlsplit(self._url)
        connection_class = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        connection = connection_class(parts.hostname or "", parts.port, timeout=_TIMEOUT)
        try:
            connection.request(method, parts.path + path, headers=self._headers)
            response = connection.getresponse()
            return response.status, response.read()
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "strerror", None) or type(error).__name__
            raise CliError(f"{self._url} cannot be reached ({reason}); the command may be repeated") from None
        finally:
            connection.close()
