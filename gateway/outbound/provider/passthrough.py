"""A client's own request to a provider, on its way through: what is taken out of it, and what is put in.

The client's key is the gateway's, and must not be seen by a provider; the provider's key is known here and nowhere
else. So this is where the one takes the other's place.
"""

from __future__ import annotations

import re
from binascii import unhexlify
from dataclasses import dataclass, field, replace
from urllib.parse import quote, unquote

from gateway import strictjson
from gateway.auth.keys import is_well_formed
from gateway.outbound.provider.redaction import Redaction
from gateway.problems import Problem

_KEY_NAME = "api_key"
_FORWARDED_HEADERS = {"content-type", "accept", "traceparent", "x-sdk-version"}
_is_valid_value = re.compile(r"[ -~]{1,1000}").fullmatch
_find_gateway_keys = re.compile(rb"rw_[0-9A-Za-z]{49}").findall
_is_valid_query = re.compile(r"[!-~]*").fullmatch
_ESCAPES = re.compile(rb"(?:%[0-9A-Fa-f]{2})+")


@dataclass(frozen=True, slots=True)
class PassthroughRequest:
    """A request as the client sent it, its path as `passages.normal` has it. `client_key` is how it said who it is."""

    method: str
    path: str
    query: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
    client_key: str = field(repr=False)

    @property
    def forwarded_headers(self) -> list[tuple[str, str]]:
        """The header fields that may go on: those that are about the body, the answer and the trace."""
        return [
            (name, value)
            for name, value in self.headers
            if name.lower() in _FORWARDED_HEADERS and _is_valid_value(value)
        ]

    @property
    def is_json(self) -> bool:
        """Whether its body says that it is JSON."""
        media_type = next((value for name, value in self.headers if name.lower() == "content-type"), "")
        media_type = media_type.partition(";")[0].strip().lower()
        return media_type == "application/json" or media_type.endswith("+json")


@dataclass(frozen=True, slots=True)
class PassthroughResponse:
    """What the provider answered, without its key. Header names are lower case."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes


def with_provider_key(request: PassthroughRequest, key: str) -> PassthroughRequest:
    """The parcel with the provider's key where the SDKs put theirs: in `api_key`, of the query or of the whole body.

    There only: deeper, `api_key` is the app's own data, which a provider stores, renders and hands out again.
    Raises Problem: malformed_json, and invalid_request where the client's key stands anywhere else.
    """
    outgoing = replace(request, query=_replace_key_in_query(request, key), body=_replace_key_in_body(request, key))
    client_key_redaction = Redaction(request.client_key)
    if not _is_valid_query(outgoing.query) or any(
        client_key_redaction.contains_key(text) or _has_gateway_key(text) for text in _searchable_texts(outgoing)
    ):
        raise Problem("invalid_request", "The gateway's key must not stand in what is passed through.")
    return outgoing


def _replace_key_in_query(request: PassthroughRequest, key: str) -> str:
    """The query, in which `api_key=<the client's key>` has the provider's key instead."""
    return "&".join(_replace_key_in_parameter(part, request.client_key, key) for part in request.query.split("&"))


def _replace_key_in_parameter(part: str, client_key: str, key: str) -> str:
    name, _, value = part.partition("=")
    is_client_key = unquote(name) == _KEY_NAME and unquote(value) == client_key
    return f"{_KEY_NAME}={quote(key, safe='')}" if is_client_key else part


def _replace_key_in_body(request: PassthroughRequest, key: str) -> bytes:
    """The body, in which the member `api_key` of the whole has the provider's key instead of the client's.

    JSON is written anew: what was looked at is what is sent, without doubled keys and with no escapes to hide behind.
    """
    if not request.is_json or not request.body:
        return request.body
    try:
        document = strictjson.read(request.body)
    except strictjson.NotJson as error:
        raise Problem("malformed_json", f"The body is {error}.") from None
    if isinstance(document, dict) and document.get(_KEY_NAME) == request.client_key:
        document[_KEY_NAME] = key
    return strictjson.write(document)


def _has_gateway_key(text: bytes) -> bool:
    """Whether some client's key stands there: this client may have two, or know another's."""
    return any(is_well_formed(found.decode()) for found in _find_gateway_keys(text))


def _searchable_texts(request: PassthroughRequest) -> list[bytes]:
    """All that will be sent, and how it reads without its escapes."""
    target = f"{request.path}?{request.query}".encode()
    values = "\n".join(value for _, value in request.forwarded_headers).encode()
    texts = [target, values, request.body]
    return [*texts, percent_decoded(target), percent_decoded(request.body.replace(b"+", b" "))]


def percent_decoded(text: bytes) -> bytes:
    """The text without its percent escapes. The standard library takes ten times as long for a body of "%"."""
    return _ESCAPES.sub(lambda found: unhexlify(found[0].replace(b"%", b"")), text)
