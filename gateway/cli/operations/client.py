"""Client of the operations port."""

from __future__ import annotations

import http.client
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import version
from typing import Literal, TypeAlias
from urllib.parse import quote, urlencode, urlsplit

from gateway.cli.errors import CliError, sanitize_for_terminal
from gateway.json import strict_json
from gateway.settings.types.addresses import check_base_url
from providers.contract import JsonValue

Query: TypeAlias = Mapping[str, str | float | bool | Iterable[str] | None]
"""Parameters of a query string: None is left out, each of several texts is a parameter of its own; `true`, `false`."""

MAY_BE_REPEATED = "the command may be repeated"
"""End of the error of a command that may succeed later."""
_TIMEOUT = 30.0  # seconds
_MAX_RESPONSE = 32 * 2**20  # bytes
_NOT_OF_THIS_PORT = frozenset({"unknown_route", "method_not_allowed"})
_CONCERNS_WHAT_WAS_NAMED = frozenset({404, 409})


class OpsProblem(CliError):
    """The port answered with a problem document; the text has its code, its detail and its errors, on one line.

    The exit code is 1 if what the command names does not exist or is in another state (404, 409), else 2.
    """

    def __init__(self, status: int, document: Mapping[str, JsonValue]) -> None:
        self.status = status
        self.code = str(document.get("code"))
        self.detail = str(document.get("detail"))
        parts = [f"{self.code}: {self.detail}", *_field_errors(document)]
        if self.code == "unauthorized":
            parts.append("set RUNWARD_OPS_KEY, or name a file with --ops-key-file")
        if document.get("retryable") is True:
            parts.append(MAY_BE_REPEATED)
        *others, last = parts
        text = sanitize_for_terminal("; ".join([*(part.removesuffix(".") for part in others), last])).replace("\n", " ")
        super().__init__(text, exit_code=1 if status in _CONCERNS_WHAT_WAS_NAMED else 2)


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

    def get(self, *segments: str, query: Query | None = None) -> dict[str, JsonValue]:
        """GET the path of these segments; returns the document. Raises as `request` does."""
        return self.request("GET", segments, query=query)

    def post(self, *segments: str, body: JsonValue = None, query: Query | None = None) -> dict[str, JsonValue]:
        """POST to the path of these segments, without a body if it is None. Raises as `request` does."""
        return self.request("POST", segments, body, query=query)

    def request(
        self,
        method: Literal["GET", "POST", "PUT", "DELETE"],
        segments: Iterable[str],
        body: JsonValue = None,
        *,
        query: Query | None = None,
    ) -> dict[str, JsonValue]:
        """Send a request; returns the document of a success. Each of `segments` stays one segment of the path.

        Raises OpsProblem for a problem document, and CliError (exit code 2) for any other response, or without one.
        """
        path = "".join(f"/{quote(segment, safe='')}" for segment in segments)
        target = path + (f"?{parameters}" if (parameters := encode_query(query or {})) else "")
        status, content = self._send(method, target, None if body is None else strict_json.write(body))
        try:
            document = strict_json.read(content)
        except strict_json.NotJson:
            document = None
        if isinstance(document, dict) and 200 <= status < 300:
            return document
        code = document.get("code") if isinstance(document, dict) and status >= 400 else None
        if not isinstance(document, dict) or not isinstance(code, str):
            raise CliError(f"status {status}, not a response of the operations port: check --ops-url")
        if code in _NOT_OF_THIS_PORT:
            raise CliError(f"{code}: check --ops-url, and whether the gateway is older than this command")
        raise OpsProblem(status, document)

    def _send(self, method: str, target: str, body: bytes | None) -> tuple[int, bytes]:
        parts = urlsplit(self._url)
        connection_class = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        connection = connection_class(parts.hostname or "", parts.port, timeout=_TIMEOUT)
        try:
            connection.request(method, parts.path + target, body, headers=self._headers)
            with connection.getresponse() as response:
                status, content = response.status, response.read(_MAX_RESPONSE + 1)
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "strerror", None) or type(error).__name__
            raise CliError(f"{self._url} cannot be reached ({reason}); {MAY_BE_REPEATED}") from None
        finally:
            connection.close()
        if len(content) > _MAX_RESPONSE:
            raise CliError(f"the response of {self._url} has more than {_MAX_RESPONSE} bytes")
        return status, content


def encode_query(query: Query) -> str:
    """Return the query string; spaces become `%20`."""
    pairs: list[tuple[str, str]] = []
    for name, value in query.items():
        if isinstance(value, bool):
            pairs.append((name, str(value).lower()))
        elif isinstance(value, (str, int, float)):
            pairs.append((name, str(value)))
        elif value is not None:
            pairs += ((name, each) for each in value)
    return urlencode(pairs, quote_via=quote)


def _field_errors(document: Mapping[str, JsonValue]) -> Iterator[str]:
    errors = document.get("errors")
    for error in errors if isinstance(errors, list) else ():
        if isinstance(error, dict):
            yield f"{error.get('pointer') or 'the whole body'}: {error.get('detail')}"
