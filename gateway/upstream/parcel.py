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
from gateway.access.keys import is_well_formed
from gateway.problems import Problem
from gateway.upstream.redaction import Redaction

_MEMBER = "api_key"
_FIELDS = {"content-type", "accept", "traceparent", "x-sdk-version"}
_VALUE = re.compile(r"[ -~]{1,1000}").fullmatch
_GATEWAY_KEYS = re.compile(rb"rw_[0-9A-Za-z]{49}").findall
_QUERY = re.compile(r"[!-~]*").fullmatch
_ESCAPES = re.compile(rb"(?:%[0-9A-Fa-f]{2})+")


@dataclass(frozen=True, slots=True)
class Parcel:
    """A request as the client sent it, its path as `passages.normal` has it. `client_key` is how it said who it is."""

    method: str
    path: str
    query: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
    client_key: str = field(repr=False)

    @property
    def fields(self) -> list[tuple[str, str]]:
        """The header fields that may go on: those that are about the body, the answer and the trace."""
        return [(name, value) for name, value in self.headers if name.lower() in _FIELDS and _VALUE(value)]

    @property
    def is_json(self) -> bool:
        """Whether its body says that it is JSON."""
        kind = next((value for name, value in self.headers if name.lower() == "content-type"), "")
        kind = kind.partition(";")[0].strip().lower()
        return kind == "application/json" or kind.endswith("+json")


@dataclass(frozen=True, slots=True)
class Returned:
    """What the provider answered, without its key. Header names are lower case."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes


def addressed(parcel: Parcel, key: str) -> Parcel:
    """The parcel with the provider's key where the SDKs put theirs: in `api_key`, of the query or of the whole body.

    There only: deeper, `api_key` is the app's own data, which a provider stores, renders and hands out again.
    Raises Problem: malformed_json, and invalid_request where the client's key stands anywhere else.
    """
    sent = replace(parcel, query=_query(parcel, key), body=_body(parcel, key))
    own = Redaction(parcel.client_key)
    if not _QUERY(sent.query) or any(own.finds(text) or _has_gateway_key(text) for text in _texts(sent)):
        raise Problem("invalid_request", "The gateway's key must not stand in what is passed through.")
    return sent


def _query(parcel: Parcel, key: str) -> str:
    """The query, in which `api_key=<the client's key>` has the provider's key instead."""
    return "&".join(_parameter(part, parcel.client_key, key) for part in parcel.query.split("&"))


def _parameter(part: str, client_key: str, key: str) -> str:
    name, _, value = part.partition("=")
    mine = unquote(name) == _MEMBER and unquote(value) == client_key
    return f"{_MEMBER}={quote(key, safe='')}" if mine else part


def _body(parcel: Parcel, key: str) -> bytes:
    """The body, in which the member `api_key` of the whole has the provider's key instead of the client's.

    JSON is written anew: what was looked at is what is sent, without doubled keys and with no escapes to hide behind.
    """
    if not parcel.is_json or not parcel.body:
        return parcel.body
    try:
        document = strictjson.read(parcel.body)
    except strictjson.NotJson as error:
        raise Problem("malformed_json", f"The body is {error}.") from None
    if isinstance(document, dict) and document.get(_MEMBER) == parcel.client_key:
        document[_MEMBER] = key
    return strictjson.write(document)


def _has_gateway_key(text: bytes) -> bool:
    """Whether some client's key stands there: this client may have two, or know another's."""
    return any(is_well_formed(found.decode()) for found in _GATEWAY_KEYS(text))


def _texts(parcel: Parcel) -> list[bytes]:
    """All that will be sent, and how it reads without its escapes."""
    target = f"{parcel.path}?{parcel.query}".encode()
    values = "\n".join(value for _, value in parcel.fields).encode()
    texts = [target, values, parcel.body]
    return [*texts, unescaped(target), unescaped(parcel.body.replace(b"+", b" "))]


def unescaped(text: bytes) -> bytes:
    """The text without its percent escapes. The standard library takes ten times as long for a body of "%"."""
    return _ESCAPES.sub(lambda found: unhexlify(found[0].replace(b"%", b"")), text)
