"""HTTP client for `POST /run`. Errors before and after sending are distinguished, as they determine the outcome."""

from __future__ import annotations

import http.client
import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from urllib.parse import urlsplit

from gateway.cli.errors import CliError
from gateway.json import strict_json
from gateway.settings.types.addresses import check_base_url
from providers.contract import JsonValue

_CONNECT_TIMEOUT = 10.0


@dataclass(frozen=True, slots=True)
class GatewayResponse:
    """Response of the gateway. `document` is None if the body is not a JSON object."""

    status: int
    body: bytes
    document: Mapping[str, JsonValue] | None


def check_gateway_url(url: str) -> str:
    """Check the base URL of a gateway. Raises CliError."""
    try:
        return check_base_url(url)
    except ValueError as error:
        raise CliError(f"--url {error}") from None


def post_run(
    url: str,
    key: str,
    request_body: Mapping[str, JsonValue],
    read_timeout: float,
    idempotency_key: str | None = None,
) -> GatewayResponse:
    """Request a run at a checked URL; `read_timeout` is in seconds. With an idempotency key the run is durable.

    Raises CliError: exit code 2 if the request was not sent, 1 if it was sent and the outcome of the run is unknown.
    """
    parts = urlsplit(url)
    connection_class = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = connection_class(parts.hostname or "", parts.port, timeout=_CONNECT_TIMEOUT)
    try:
        connection.connect()
    except OSError as error:
        raise CliError(f"{url} cannot be reached ({error.strerror or error}); nothing was run") from None
    try:
        connection.sock.settimeout(read_timeout)
        connection.request("POST", f"{parts.path}/run", json.dumps(request_body), _headers(key, idempotency_key))
        response = connection.getresponse()
        body = response.read()
    except (OSError, http.client.HTTPException) as error:
        reason = "no response in time" if isinstance(error, TimeoutError) else "the connection was lost"
        raise CliError(f"{reason} after the request was sent; outcome: unknown", exit_code=1) from None
    finally:
        connection.close()
    return GatewayResponse(response.status, body, _parse_object(body))


def _headers(key: str, idempotency_key: str | None) -> dict[str, str]:
    headers = {
        "Authorization": f"Bearer {key}",
        "Content-Type": "application/json",
        "User-Agent": f"runward-cli/{version('runward')}",
    }
    return headers if idempotency_key is None else {**headers, "Idempotency-Key": idempotency_key}


def _parse_object(body: bytes) -> Mapping[str, JsonValue] | None:
    try:
        document = strict_json.read_stored(body)  # an output may be nested deeper than a request
    except ValueError:
        return None
    return document if isinstance(document, dict) else None
