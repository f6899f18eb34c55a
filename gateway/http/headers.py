"""Header fields read by their grammar: lists, quoted strings, parameters, quality values (RFC 9110, 5.6)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TypeAlias

from multidict import MultiMapping

Headers: TypeAlias = MultiMapping[str]

_JSON = "application/json"
_UTF8_NAMES = frozenset({"", "utf-8", "utf8", "us-ascii"})
_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # noqa: S105 - RFC 9110, 5.6.2, no password
_QUOTED = r'"(?:[^"\\]|\\.)*"'
_MEDIA_TYPE = re.compile(rf"{_TOKEN}/{_TOKEN}").fullmatch
# A quoted string without an end reaches to the end of the line, so that the scan is linear.
_LIST_ELEMENT = re.compile(r'(?:"(?:[^"\\]|\\.)*(?:"|\\?\Z)|[^,"])+', re.DOTALL)
_PARAMETER = re.compile(rf";[ \t]*(?:({_TOKEN})[ \t]*(?:=[ \t]*({_TOKEN}|{_QUOTED})?)?)?[ \t]*")
_QUOTED_PAIR = re.compile(r"\\(.)")
_QUALITY = re.compile(r"0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?").fullmatch


@dataclass(frozen=True, slots=True)
class Element:
    """One element of a list: its value in lower case, and its parameters by name in lower case."""

    value: str
    parameters: Mapping[str, str] = field(default_factory=dict)

    @property
    def quality(self) -> float:
        """The weight `q` from 0 to 1 (RFC 9110, 12.4.2): 1 if absent, 0 if malformed."""
        text = self.parameters.get("q", "1")
        return float(text) if _QUALITY(text) else 0.0


def parse_list(values: Sequence[str]) -> list[Element]:
    """Elements of a list field, all of its lines in order. Empty elements are ignored; malformed ones are left out."""
    elements = (parse_element(text) for line in values for text in _LIST_ELEMENT.findall(line))
    return [element for element in elements if element is not None]


def parse_element(text: str) -> Element | None:
    """Value and parameters of `text`. None if it is empty or malformed."""
    value, semicolon, rest = text.partition(";")
    value = value.strip(" \t").lower()
    if not value:
        return None
    return Element(value) if not semicolon else _with_parameters(value, semicolon + rest)


def _with_parameters(value: str, text: str) -> Element | None:
    parameters: dict[str, str] = {}
    position = 0
    while position < len(text):
        match = _PARAMETER.match(text, position)
        if match is None:
            return None
        position = match.end()
        if match[1]:
            parameters.setdefault(match[1].lower(), _unquote(match[2] or ""))
    return Element(value, parameters)


def _unquote(text: str) -> str:
    return _QUOTED_PAIR.sub(r"\1", text[1:-1]) if text.startswith('"') else text


def content_type(headers: Headers) -> Element:
    """The media type of a body. An empty value if the field is missing, repeated or malformed."""
    lines = headers.getall("Content-Type", [])
    return _media_type(lines[0]) if len(lines) == 1 else Element("")


@lru_cache(maxsize=256)  # clients send few different values: one call instead of six for each request
def _media_type(line: str) -> Element:
    element = parse_element(line)
    return element if element is not None and _MEDIA_TYPE(element.value) else Element("")


def is_json(headers: Headers) -> bool:
    """True if the body is `application/json`, in UTF-8 (RFC 8259, 8.1) as far as a `charset` is given."""
    lines = headers.getall("Content-Type", ())
    return len(lines) == 1 and _is_json(lines[0])


@lru_cache(maxsize=256)
def _is_json(line: str) -> bool:
    element = _media_type(line)
    return element.value == _JSON and element.parameters.get("charset", "").lower() in _UTF8_NAMES


def is_encoded(headers: Headers) -> bool:
    """True if the body has a content coding such as gzip, or a transfer coding other than chunked."""
    if "Content-Encoding" not in headers and "Transfer-Encoding" not in headers:
        return False
    return bool(content_codings(headers)) or has_transfer_coding(headers)


def content_codings(headers: Headers) -> list[str]:
    """The content codings of the body, in the order in which they were applied; without "identity"."""
    codings = [element.value for element in parse_list(headers.getall("Content-Encoding", []))]
    return [coding for coding in codings if coding != "identity"]


def has_transfer_coding(headers: Headers) -> bool:
    """True if the body has a transfer coding other than chunked."""
    return [element.value for element in parse_list(headers.getall("Transfer-Encoding", []))] not in ([], ["chunked"])


def expects_continue(headers: Headers) -> bool:
    """True if the client waits for `100 Continue` before it sends its body (RFC 9110, 10.1.1)."""
    return any(element.value == "100-continue" for element in parse_list(headers.getall("Expect", [])))


def prefers_async(headers: Headers) -> bool:
    """True if the client sent `Prefer: respond-async` (RFC 7240, 4.1). An empty value equals no value (section 2)."""
    return "Prefer" in headers and any(map(_prefers_async, headers.getall("Prefer")))


@lru_cache(maxsize=256)  # clients send few different values
def _prefers_async(line: str) -> bool:
    preferences = (element.value.partition("=") for element in parse_list([line]))
    return any(name.rstrip() == "respond-async" and value.strip() in {"", '""'} for name, _, value in preferences)


def media_type_quality(headers: Headers, media_type: str, *, wildcards: bool = True) -> float:
    """Quality that `Accept` gives a media type, by the most specific range (RFC 9110, 12.5.1): 0 if not acceptable.

    Without the field, everything is acceptable. Parameters of ranges do not matter. `wildcards=False`: only a range
    that names the media type counts.
    """
    ranges = _best_qualities(parse_list(headers.getall("Accept", [])))
    if not wildcards:
        return ranges.get(media_type, 0.0)
    if not ranges:
        return 1.0
    candidates = (media_type, media_type.partition("/")[0] + "/*", "*/*")
    return next((ranges[candidate] for candidate in candidates if candidate in ranges), 0.0)


def prefers_media_type(headers: Headers, media_type: str, default: str) -> bool:
    """True if `Accept` names `media_type`, and gives it at least the quality of `default`."""
    quality = media_type_quality(headers, media_type, wildcards=False)
    return quality > 0 and quality >= media_type_quality(headers, default)


def accepts_gzip(headers: Headers) -> bool:
    """True if `Accept-Encoding` names gzip, or everything, with a quality over 0 (RFC 9110, 12.5.3)."""
    codings = _best_qualities(parse_list(headers.getall("Accept-Encoding", [])))
    return next((codings[name] for name in ("gzip", "x-gzip", "*") if name in codings), 0.0) > 0


def _best_qualities(elements: Sequence[Element]) -> dict[str, float]:
    qualities: dict[str, float] = {}
    for element in elements:
        qualities[element.value] = max(element.quality, qualities.get(element.value, 0.0))
    return qualities


def bearer_token(headers: Headers) -> str:
    """The token of `Authorization: Bearer TOKEN` (RFC 6750, 2.1). Empty without one, or if the field is repeated."""
    lines = headers.getall("Authorization", [])
    scheme, _, token = lines[0].partition(" ") if len(lines) == 1 else ("", "", "")
    return token.strip(" ") if scheme.lower() == "bearer" else ""


KEY_FIELDS = ("Authorization", "X-API-KEY")
"""Header fields that carry the key, on every route."""


def presented_key(headers: Headers, further_fields: Sequence[str]) -> str:
    """Key of `Authorization: Bearer`, else of `X-API-KEY` or of `further_fields`. Empty if there is none."""
    token = bearer_token(headers)
    if token:
        return token
    values = (single_value(headers, name) for name in ("X-API-KEY", *further_fields))
    return next(filter(None, values), "")


def single_value(headers: Headers, name: str) -> str:
    """The value of a field without list syntax. Empty if the field is missing or repeated."""
    lines = headers.getall(name, [])
    return lines[0].strip(" \t") if len(lines) == 1 else ""
