"""Passthrough requests: header filter, and replacement of the client's key by the provider's key.

A gateway key must not reach a provider, and the provider's key is known to the outbound packages only.
"""

from __future__ import annotations

import re
from binascii import unhexlify
from dataclasses import dataclass, field, replace
from urllib.parse import quote, unquote

from gateway import strict_json
from gateway.errors import InvalidRequest, MalformedJson
from gateway.key_format import is_well_formed
from gateway.outbound.provider.redaction import Redaction

_KEY_NAME = "api_key"
_FORWARDED_HEADERS = {"content-type", "accept", "traceparent", "x-sdk-version"}
_is_valid_value = re.compile(r"[ -~]{1,1000}").fullmatch
_find_gateway_keys = re.compile(rb"rw_[0-9A-Za-z]{49}").findall
_is_valid_query = re.compile(r"[!-~]*").fullmatch
_ESCAPES = re.compile(rb"(?:%[0-9A-Fa-f]{2})+")


@dataclass(frozen=True, slots=True)
class PassthroughRequest:
    """A request of a client with a normalized path (`passthrough_rules`). `client_key` is the key of the client."""

    method: str
    path: str
    query: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
    client_key: str = field(repr=False)

    @property
    def forwarded_headers(self) -> list[tuple[str, str]]:
        """The header fields that are forwarded: content type, accepted types, trace and SDK version."""
        return [
            (name, value)
            for name, value in self.headers
            if name.lower() in _FORWARDED_HEADERS and _is_valid_value(value)
        ]

    @property
    def is_json(self) -> bool:
        """True if the Content-Type is JSON."""
        media_type = next((value for name, value in self.headers if name.lower() == "content-type"), "")
        media_type = media_type.partition(";")[0].strip().lower()
        return media_type == "application/json" or media_type.endswith("+json")


@dataclass(frozen=True, slots=True)
class PassthroughResponse:
    """Response of the provider, with its key redacted. Header names are lower case."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes


def with_provider_key(request: PassthroughRequest, key: str) -> PassthroughRequest:
    """Return the request with the provider's key in `api_key` of the query or of the top-level object of the body.

    The SDKs send their key there. A nested `api_key` is data of the application, which a provider stores and returns.
    Raises MalformedJson, and InvalidRequest if a gateway key is found anywhere else.
    """
    outgoing = replace(request, query=_replace_key_in_query(request, key), body=_replace_key_in_body(request, key))
    client_key_redaction = Redaction(request.client_key)
    if not _is_valid_query(outgoing.query) or any(
        client_key_redaction.contains_key(text) or _has_gateway_key(text) for text in _searchable_texts(outgoing)
    ):
        raise InvalidRequest("A passthrough request must not contain a gateway key.")
    return outgoing


def _replace_key_in_query(request: PassthroughRequest, key: str) -> str:
    """Return the query with the client's key in `api_key` replaced."""
    return "&".join(_replace_key_in_parameter(part, request.client_key, key) for part in request.query.split("&"))


def _replace_key_in_parameter(part: str, client_key: str, key: str) -> str:
    name, _, value = part.partition("=")
    is_client_key = unquote(name) == _KEY_NAME and unquote(value) == client_key
    return f"{_KEY_NAME}={quote(key, safe='')}" if is_client_key else part


def _replace_key_in_body(request: PassthroughRequest, key: str) -> bytes:
    """Return the body with the client's key in the top-level member `api_key` replaced.

    JSON is serialized again, so that the checked text is the text that is sent: no duplicate keys, no escapes.
    """
    if not request.is_json or not request.body:
        return request.body
    try:
        document = strict_json.read(request.body)
    except strict_json.NotJson as error:
        raise MalformedJson(f"The body is {error}.") from None
    if isinstance(document, dict) and document.get(_KEY_NAME) == request.client_key:
        document[_KEY_NAME] = key
    return strict_json.write(document)


def _has_gateway_key(text: bytes) -> bool:
    """Return True if the text contains a well-formed gateway key, of any client."""
    return any(is_well_formed(found.decode()) for found in _find_gateway_keys(text))


def _searchable_texts(request: PassthroughRequest) -> list[bytes]:
    """Return all parts of the request, and their percent-decoded forms."""
    target = f"{request.path}?{request.query}".encode()
    values = "\n".join(value for _, value in request.forwarded_headers).encode()
    texts = [target, values, request.body]
    return [*texts, percent_decoded(target), percent_decoded(request.body.replace(b"+", b" "))]


def percent_decoded(text: bytes) -> bytes:
    """Percent-decode a text. The standard library takes ten times as long for a body of "%"."""
    return _ESCAPES.sub(lambda found: unhexlify(found[0].replace(b"%", b"")), text)
