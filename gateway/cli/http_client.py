"""`POST /run` by the standard library. Where it goes wrong decides what can be said of the run."""

from __future__ import annotations

import http.client
import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from urllib.parse import urlsplit

from gateway import strictjson
from gateway.cli.errors import CliError
from gateway.settings.addresses import check_base_url
from providers.contract import JsonValue

_CONNECT_TIMEOUT = 10.0


@dataclass(frozen=True, slots=True)
class GatewayResponse:
    """What the gateway said. `document` is None where that is no JSON object."""

    status: int
    body: bytes
    document: Mapping[str, JsonValue] | None


def check_gateway_url(url: str) -> str:
    """Check a gateway's address; Failure where it can not be one."""
    try:
        return check_base_url(url)
    except ValueError as error:
        raise CliError(f"--url {error}") from None


def post_run(url: str, key: str, request_body: Mapping[str, JsonValue], read_timeout: float) -> GatewayResponse:
    """Ask for a run at a checked URL, and wait up to `patience` seconds for the answer.

    Raises Failure: exit code 2 where the request was never sent, 1 where it was, and nobody can say what became of it.
    """
    parts = urlsplit(url)
    connection_class = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = connection_class(parts.hostname or "", parts.port, timeout=_CONNECT_TIMEOUT)
    try:
        connection.connect()
    except OSError as error:
        raise CliError(f"{url} can not be reached ({error.strerror or error}); nothing was run") from None
    try:
        connection.sock.settimeout(read_timeout)
        connection.request("POST", f"{parts.path}/run", json.dumps(request_body), _headers(key))
        response = connection.getresponse()
        body = response.read()
    except (OSError, http.client.HTTPException) as error:
        reason = "no answer in time" if isinstance(error, TimeoutError) else "the connection was lost"
        raise CliError(f"{reason} after the request was sent; outcome: unknown", exit_code=1) from None
    finally:
        connection.close()
    return GatewayResponse(response.status, body, _parse_object(body))


def _headers(key: str) -> dict[str, str]:
    return {
        "Authorization": f"Bearer {key}",
        "Content-Type": "application/json",
        "User-Agent": f"runward-cli/{version('runward')}",
    }


def _parse_object(body: bytes) -> Mapping[str, JsonValue] | None:
    try:
        document = strictjson.read_stored(body)  # an output may be nested deeper than a request
    except ValueError:
        return None
    return document if isinstance(document, dict) else None
