"""`POST /run` by the standard library. Where it goes wrong decides what can be said of the run."""

from __future__ import annotations

import http.client
import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from urllib.parse import urlsplit

from gateway import strictjson
from gateway.cli.failure import Failure
from gateway.settings.addresses import base_url
from providers.contract import JsonValue

_CONNECT_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What the gateway said. `document` is None where that is no JSON object."""

    status: int
    body: bytes
    document: Mapping[str, JsonValue] | None


def checked_url(url: str) -> str:
    """Check a gateway's address; Failure where it can not be one."""
    try:
        return base_url(url)
    except ValueError as error:
        raise Failure(f"--url {error}") from None


def post_run(url: str, key: str, asked: Mapping[str, JsonValue], patience: float) -> Answer:
    """Ask for a run at a checked URL, and wait up to `patience` seconds for the answer.

    Raises Failure: exit code 2 where the request was never sent, 1 where it was, and nobody can say what became of it.
    """
    parts = urlsplit(url)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.hostname or "", parts.port, timeout=_CONNECT_SECONDS)
    try:
        connection.connect()
    except OSError as error:
        raise Failure(f"{url} can not be reached ({error.strerror or error}); nothing was run") from None
    try:
        connection.sock.settimeout(patience)
        connection.request("POST", f"{parts.path}/run", json.dumps(asked), _headers(key))
        response = connection.getresponse()
        body = response.read()
    except (OSError, http.client.HTTPException) as error:
        why = "no answer in time" if isinstance(error, TimeoutError) else "the connection was lost"
        raise Failure(f"{why} after the request was sent; outcome: unknown", exit_code=1) from None
    finally:
        connection.close()
    return Answer(response.status, body, _document(body))


def _headers(key: str) -> dict[str, str]:
    return {
        "Authorization": f"Bearer {key}",
        "Content-Type": "application/json",
        "User-Agent": f"runward-cli/{version('runward')}",
    }


def _document(body: bytes) -> Mapping[str, JsonValue] | None:
    try:
        document = strictjson.read(body)
    except strictjson.NotJson:
        return None
    return document if isinstance(document, dict) else None
