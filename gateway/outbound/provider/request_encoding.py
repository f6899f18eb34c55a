"""Encoding of requests to a provider: request line, header fields and body."""

from __future__ import annotations

import re
from functools import lru_cache
from urllib.parse import quote, urlencode

from gateway.outbound.provider.endpoint import ProviderEndpoint
from providers.contract import Call

_is_request_target = re.compile(r"/[!-~]*").fullmatch


@lru_cache(maxsize=1024)  # most calls go to few paths
def encode_request_line(method: str, prefix: str, target: str) -> bytes:
    """Encode the request line; ValueError where the target is not percent-encoded."""
    if not _is_request_target(target):
        raise ValueError("an adapter's path is not encoded")
    return f"{method} {prefix}{target} HTTP/1.1\r\n".encode()


def request_target(call: Call) -> str:
    """Return the call's path with its query."""
    return f"{call.path}{'&' if '?' in call.path else '?'}{urlencode(call.query, quote_via=quote)}"


def encode_body(call: Call) -> tuple[bytes, bytes]:
    """Return the Content-Type field and the body of a form; both empty where the call has no body."""
    if call.form is not None:
        if call.json is not None:
            raise ValueError("an adapter's call has two bodies")
        return b"Content-Type: application/x-www-form-urlencoded\r\n", urlencode(call.form).encode()
    return b"", b""


def encode_header_fields(
    host: str, endpoint: ProviderEndpoint, *, accept: str = "", accept_encoding: str = "identity"
) -> bytes:
    """Encode the header fields that all requests have."""
    fields = {
        "Host": host,
        endpoint.key_header.name: endpoint.key_header.prefix + endpoint.key.get_secret_value(),
        "Accept": accept,
        "Accept-Encoding": accept_encoding,
        "User-Agent": endpoint.user_agent,
    }
    return "".join(f"{name}: {value}\r\n" for name, value in fields.items() if value).encode()
