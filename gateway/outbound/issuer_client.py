"""HTTP client of one issuer of tokens: fetches its documents, and sends a form to its token endpoint.

Each request has a connection of its own, a deadline and a bounded response; redirects are not followed. Addresses come
from the configuration and from the issuer's discovery document, and have to be https, unless the issuer's own is http.
Private addresses are allowed: an issuer may be inside of the cluster.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import SplitResult, urlencode, urlsplit

from gateway import happy_eyeballs
from gateway.outbound.connect_tunnel import Proxy, ProxyRefused
from gateway.outbound.provider.client import create_tls_context
from gateway.outbound.provider.http1_connection import HttpResponse, ProviderConnection
from gateway.settings.types.addresses import check_endpoint_url
from providers.contract import ProviderFault

TIMEOUT = 5.0
"""Seconds for one request: names, connection, TLS and response."""
_MAX_BEARER = 16_384


class IssuerFault(Exception):
    """No usable response. The text says why, without a secret or content of the response."""


@dataclass(frozen=True, slots=True)
class IssuerEndpoint:
    """Address and connection settings of an issuer. `allow_http`: to any address, not only to this machine."""

    url: str
    jwks_uri: str | None = None
    allow_http: bool = False
    ca_file: Path | None = None
    bearer_token_file: Path | None = None
    proxy: Proxy | None = None
    user_agent: str = "runward"


class IssuerClient:
    """Requests to one issuer."""

    def __init__(self, endpoint: IssuerEndpoint) -> None:
        self._endpoint = endpoint
        self._own_origins = {_origin(urlsplit(url)) for url in (endpoint.url, endpoint.jwks_uri) if url}
        self._may_be_plain = any(scheme == "http" for scheme, _, _ in self._own_origins)

    async def get(self, url: str, *, max_bytes: int) -> bytes:
        """Fetch a document. Raises IssuerFault."""
        parts = self.check(url)
        bearer = await self._bearer_for(parts)
        response = await self._exchange(parts, _encode("GET", parts, self._endpoint.user_agent, bearer), max_bytes)
        if response.status != 200:
            raise IssuerFault(f"answered with status {response.status}")
        return bytes(response.body)

    async def post_form(
        self, url: str, form: dict[str, str], *, authorization: str = "", max_bytes: int
    ) -> tuple[int, bytes]:
        """Send a form; returns status and body of the response. Raises IssuerFault."""
        parts = self.check(url)
        body = urlencode(form).encode()
        request = _encode("POST", parts, self._endpoint.user_agent, authorization, body)
        response = await self._exchange(parts, request, max_bytes)
        return response.status, bytes(response.body)

    def check(self, url: str) -> SplitResult:
        """Return the parts of an address that the issuer may name. Raises IssuerFault."""
        try:
            parts = urlsplit(check_endpoint_url(url))
        except ValueError:
            raise IssuerFault("names an address that is not valid") from None
        if parts.scheme != "https" and not self._may_be_plain:
            raise IssuerFault("names an address that is not https")
        return parts

    async def _bearer_for(self, parts: SplitResult) -> str:
        """Return the credentials for a request: for hosts of the configuration only."""
        path = self._endpoint.bearer_token_file
        if path is None or _origin(parts) not in self._own_origins:
            return ""
        try:
            text = (await asyncio.to_thread(_read_start, path)).decode("ascii").strip()
        except (OSError, ValueError):
            raise IssuerFault("bearer_token_file cannot be read") from None
        if not text or not text.isprintable() or " " in text or len(text) > _MAX_BEARER:
            raise IssuerFault("bearer_token_file holds no token")
        return f"Bearer {text}"

    async def _exchange(self, parts: SplitResult, request: bytes, max_bytes: int) -> HttpResponse:
        connection: ProviderConnection | None = None
        try:
            async with asyncio.timeout(TIMEOUT):
                connection = await self._connect(parts, max_bytes)
                response = await connection.exchange(request, TIMEOUT)
        except ssl.SSLCertVerificationError as error:
            raise IssuerFault(f"the certificate is not trusted ({error.verify_message})") from None
        except ssl.SSLError:
            raise IssuerFault("no TLS connection was possible") from None
        except ProxyRefused as refused:
            raise IssuerFault(str(refused)) from None
        except TimeoutError:
            raise IssuerFault(f"no answer within {TIMEOUT:g} s") from None
        except OSError:
            raise IssuerFault("cannot be reached") from None
        except ProviderFault as fault:
            raise IssuerFault(f"gave no usable answer ({fault.cause.value})") from None
        finally:
            if connection is not None:
                connection.abort()
        if any(name == b"content-encoding" and value.lower() != b"identity" for name, value in response.headers):
            raise IssuerFault("the response is compressed, although identity was requested")
        return response

    async def _connect(self, parts: SplitResult, max_bytes: int) -> ProviderConnection:
        scheme, host, port = _origin(parts)
        tls = await asyncio.to_thread(create_tls_context, self._endpoint.ca_file) if scheme == "https" else None
        connected = await self._open_socket(host, port)
        try:
            _, connection = await asyncio.get_running_loop().create_connection(
                lambda: ProviderConnection(max_bytes, _forget),
                sock=connected,
                ssl=tls,
                server_hostname=host if tls else None,
            )
        except BaseException:
            connected.close()
            raise
        return connection

    async def _open_socket(self, host: str, port: int) -> socket.socket:
        proxy = self._endpoint.proxy
        return await (happy_eyeballs.connect_host(host, port) if proxy is None else proxy.open_tunnel(host, port))


def _forget(_connection: ProviderConnection) -> None:
    """Do nothing once a connection is lost: it belongs to no pool."""


def _read_start(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_MAX_BEARER + 2)


def _origin(parts: SplitResult) -> tuple[str, str, int]:
    return parts.scheme, parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)


def _encode(method: str, parts: SplitResult, user_agent: str, authorization: str, body: bytes | None = None) -> bytes:
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    fields = {
        "Host": parts.netloc,
        "Authorization": authorization,
        "Accept": "application/json",
        "Accept-Encoding": "identity",
        "User-Agent": user_agent,
        "Connection": "close",
    }
    if body is not None:
        fields |= {"Content-Type": "application/x-www-form-urlencoded", "Content-Length": str(len(body))}
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items() if value)]
    return "\r\n".join([*lines, "", ""]).encode() + (body or b"")
