"""Client of the operations port."""

from __future__ import annotations

import http.client
from importlib.metadata import version
from typing import Literal
from urllib.parse import urlsplit

from gateway.cli.errors import CliError, sanitize_for_terminal
from gateway.json import strict_json
from gateway.settings.types.addresses import check_base_url
from providers.contract import JsonValue

_TIMEOUT = 30.0
_MISSING = frozenset({"not_found", "provider_not_found"})


class OpsClient:
    """Client of the operations port at `url`; `key` is empty if the port needs none. Raises CliError."""

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

    def request(
        self, method: Literal["GET", "POST"], path: str, body: JsonValue = None
    ) -> tuple[int, dict[str, JsonValue]]:
        """Send a request, without a body if it is None; returns status and document: of a success, or of a 404.

        Raises CliError for another response, and if there is none.
        """
        status, content = self._send(method, path, None if body is None else strict_json.write(body))
        try:
            document = strict_json.read(content)
        except strict_json.NotJson:
            document = None
        if not isinstance(document, dict) or document.get("code") in {"unknown_route", "method_not_allowed"}:
            raise CliError(f"status {status}, not a response of the operations port: check --ops-url")
        if status in {200, 202} or document.get("code") in _MISSING:
            return status, document
        raise CliError(sanitize_for_terminal(f"{document.get('code')}: {document.get('detail')}".replace("\n", " ")))

    def _send(self, method: str, path: str, body: bytes | None) -> tuple[int, bytes]:
        parts = urlsplit(self._url)
        connection_class = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        connection = connection_class(parts.hostname or "", parts.port, timeout=_TIMEOUT)
        try:
            connection.request(method, parts.path + path, body, headers=self._headers)
            response = connection.getresponse()
            return response.status, response.read()
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "strerror", None) or type(error).__name__
            raise CliError(f"{self._url} cannot be reached ({reason}); the command may be repeated") from None
        finally:
            connection.close()
