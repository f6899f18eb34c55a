"""Passthrough requests: header filter, and replacement of the client's key by the provider's key.

A gateway key must not reach a provider, and the provider's key is known to the outbound packages only.
"""

from __future__ import annotations

import re
from binascii import unhexlify
from dataclasses import dataclass, field, replace
from urllib.parse import quote, unquote

from gateway.content_decoding import UndecodableError, decode
from gateway.errors import InvalidRequest
from gateway.json import strict_json
from gateway.json.string_members import find_strings
from gateway.key_format import is_well_formed
from gateway.outbound.provider.redaction import Redaction, unescaped
from gateway.outbound.provider.stream import RedactedStream

MAX_DECODED_BODY = 20_000_000
"""Maximum size of a decoded body, in bytes, unless the caller says otherwise."""

_KEY_NAME = "api_key"
_FORWARDED_HEADERS = {"content-type", "accept", "traceparent", "x-sdk-version"}
_is_valid_value = re.compile(r"[ -~]{1,1000}").fullmatch
_find_gateway_keys = re.compile(rb"rw_[0-9A-Za-z]{49}").findall
_is_valid_query = re.compile(r"[!-~]*").fullmatch
_ESCAPES = re.compile(rb"(?:%[0-9A-Fa-f]{2})+")


@dataclass(frozen=True, slots=True)
class PassthroughRequest:
    """A request of a client with a normalized path (`passthrough_rules`). `client_key` is the key of the client.

    `coding`: the content coding of the body, one of `CODINGS`, or "". `accepts_gzip`: the client accepts responses in
    gzip.
    """

    method: str
    path: str
    query: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
    client_key: str = field(repr=False)
    coding: str = ""
    accepts_gzip: bool = False

    @property
    def forwarded_headers(self) -> list[tuple[str, str]]:
        """The header fields that are forwarded: content type and coding, accepted types, trace and SDK version."""
        forwarded = [
            (name, value)
            for name, value in self.headers
            if name.lower() in _FORWARDED_HEADERS and _is_valid_value(value)
        ]
        return [*forwarded, ("Content-Encoding", self.coding)] if self.coding else forwarded

    @property
    def is_json(self) -> bool:
        """True if the Content-Type is JSON."""
        media_type = next((value for name, value in self.headers if name.lower() == "content-type"), "")
        media_type = media_type.partition(";")[0].strip().lower()
        return media_type == "application/json" or media_type.endswith("+json")


@dataclass(frozen=True, slots=True)
class PassthroughResponse:
    """Response of the provider, with its key redacted. Header names are lower case.

    `stream`: the body of a response that is passed on while it arrives, instead of `body`.
    """

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes = b""
    stream: RedactedStream | None = None


def with_provider_key(request: PassthroughRequest, key: str, max_body: int = MAX_DECODED_BODY) -> PassthroughRequest:
    """Return the request with the provider's key in `api_key` of the query or of the top-level object of the body.

    The SDKs send their key there. A nested `api_key` is data of the application, which a provider stores and returns.
    All other bytes stay as they are. A compressed body is sent without its coding if the key was replaced in it; it has
    at most `max_body` bytes once decoded. Raises InvalidRequest for a body that cannot be decoded, and if a gateway key
    is found anywhere else.
    """
    try:
        content = decode(request.body, max_body) if request.coding else request.body
    except UndecodableError as error:
        raise InvalidRequest(f"The request cannot be passed through: {error}.") from None
    replaced = _replace_key_in_body(request, content, key)
    outgoing = replace(request, query=_replace_key_in_query(request, key))
    if replaced is not content:
        outgoing = replace(outgoing, body=replaced, coding="")
    client_key_redaction = Redaction(*filter(None, [request.client_key]))  # none with a client certificate
    if not _is_valid_query(outgoing.query) or any(
        client_key_redaction.contains_key(text) or _has_gateway_key(text)
        for text in _searchable_texts(outgoing, replaced)
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


def _replace_key_in_body(request: PassthroughRequest, content: bytes, key: str) -> bytes:
    """Return the body's content with the client's key in the top-level member `api_key` replaced, else unchanged."""
    client_key = request.client_key
    if not request.is_json or not (client_key.encode() in content or b"\\u" in content):
        return content
    parts: list[bytes] = []
    position = 0
    for member in find_strings(content, _KEY_NAME):
        if member.value == client_key:
            parts += (content[position : member.start], strict_json.write(key))
            position = member.end
    return b"".join((*parts, content[position:])) if parts else content


def _has_gateway_key(text: bytes) -> bool:
    """Return True if the text contains a well-formed gateway key, of any client."""
    return any(is_well_formed(found.decode()) for found in _find_gateway_keys(text))


def _searchable_texts(request: PassthroughRequest, content: bytes) -> list[bytes]:
    """Return all parts of the request, and their forms without percent-encoding and without escapes of JSON."""
    target = f"{request.path}?{request.query}".encode()
    values = "\n".join(value for _, value in request.forwarded_headers).encode()
    texts = [target, values, content, percent_decoded(target)]
    if b"%" in content:
        texts.append(percent_decoded(content))
    if b"\\" in content:
        texts.append(unescaped(content))
    return texts


def percent_decoded(text: bytes) -> bytes:
    """Percent-decode a text. The standard library takes ten times as long for a body of "%"."""
    return _ESCAPES.sub(lambda found: unhexlify(found[0].replace(b"%", b"")), text)
