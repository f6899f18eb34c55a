"""Redaction of provider keys in responses, in all their encodings: some providers quote the key in their errors."""

from __future__ import annotations

import re
from base64 import b64encode, urlsafe_b64encode
from binascii import unhexlify
from collections.abc import Callable, Iterator
from urllib.parse import quote

from gateway.content_decoding import Decoder
from gateway.json import lenient_json, strict_json

_MAX_REPLACED_KEYS = 8  # keys before the last change; each costs eleven searches in every response

_MAX_ESCAPE_BYTES = 6  # bytes of JSON for one character
_ASCII_ESCAPES = re.compile(rb"(?:\\u00[0-7][0-9A-Fa-f])+|\\/")


class Redaction:
    """Replaces keys by "[redacted]". A response without keys costs a few searches for each key."""

    __slots__ = ("_keys", "_spellings")

    def __init__(self, *keys: str) -> None:
        self._keys = keys
        self._spellings = tuple(dict.fromkeys(spelling for key in keys for spelling in _spellings(key)))

    def with_keys_of(self, earlier: Redaction) -> Redaction:
        """Return a redaction that includes recent keys of an earlier one, which responses may still quote."""
        return Redaction(*dict.fromkeys((*self._keys, *earlier._keys[:_MAX_REPLACED_KEYS])))

    def parse_response(self, content: bytes) -> lenient_json.Repaired:
        """Parse a response leniently, with redacted keys. Raises NotJson."""
        if max(map(content.find, self._spellings), default=-1) >= 0:
            content = self.redact_spellings(content)
        parsed = lenient_json.read(content)
        # `find`, because `in` reads the searched bytes as a number first, which costs an exception each time.
        if content.find(b"\\u") < 0 and content.find(b"\\/") < 0:
            return parsed
        # Escapes may hide any character. Serialized again, there are none.
        written = strict_json.write(parsed.value)
        stripped = self.redact_spellings(written)
        return parsed if stripped == written else parsed._replace(value=strict_json.read_stored(stripped))

    def contains_key(self, text: bytes) -> bool:
        """Return True if a text contains a key."""
        return any(spelling in text for spelling in self._spellings)

    def redact(self, content: bytes) -> bytes:
        """Return a response with redacted keys; JSON with an escaped key is serialized again."""
        stripped = self.redact_spellings(content)
        if not self._has_escaped_key(stripped):
            return stripped
        try:
            written = strict_json.write(lenient_json.read(stripped).value)
        except strict_json.NotJson:
            return stripped
        return self.redact_spellings(written) if self.contains_key(written) else stripped

    def _has_escaped_key(self, text: bytes) -> bool:
        return b"\\" in text and self.contains_key(unescaped(text))

    def stream(self, decoder: Decoder | None) -> StreamRedaction:
        """Return the redaction of one response that is passed on in parts; `decoder`: of its content coding."""
        return StreamRedaction(self, self._spellings, decoder)

    def redact_spellings(self, text: bytes) -> bytes:
        """Return a text with redacted keys, unless they are written with escapes of JSON."""
        for spelling in self._spellings:
            text = text.replace(spelling, b"[redacted]")
        return text


class ExposedKeyError(ValueError):
    """A part of a response has a key that cannot be redacted in it."""


class StreamRedaction:
    """Redaction of a response in parts. A part is passed on at once, unless it ends with the beginning of a key.

    A key in a compressed response, or one with escapes of JSON, cannot be redacted: then ExposedKeyError is raised, and
    the part must not be sent. UndecodableError is raised if the response is not encoded as it says.
    """

    def __init__(self, redaction: Redaction, spellings: tuple[bytes, ...], decoder: Decoder | None) -> None:
        self._redaction, self._spellings, self._decoder = redaction, spellings, decoder
        self._longest = max(map(len, spellings), default=0)
        self._held = b""
        self._searched = b""  # the end of the text so far

    def feed(self, part: bytes) -> bytes:
        """Return what can be passed on after this part."""
        if self._decoder is not None:
            for text in self._decoder.feed(part):
                self._reject_keys(text, self._redaction.contains_key)
            return part
        self._reject_keys(part, self._never)
        text = self._redaction.redact_spellings(self._held + part)
        held = self._count_beginning(text)
        self._held = text[len(text) - held :]
        return text[: len(text) - held]

    def finish(self) -> bytes:
        """Return the rest."""
        rest, self._held = self._held, b""
        return rest

    @staticmethod
    def _never(_: bytes) -> bool:
        return False

    def _reject_keys(self, text: bytes, contains_key: Callable[[bytes], bool]) -> None:
        searched = self._searched + text
        if contains_key(searched) or (b"\\" in searched and self._has_key_in_escapes(searched)):
            raise ExposedKeyError("the response quotes the key")
        self._searched = searched[-_MAX_ESCAPE_BYTES * self._longest :]

    def _has_key_in_escapes(self, text: bytes) -> bool:
        """Return True if the text without escapes has more keys than the text itself, whose keys are redacted."""
        return self._redaction.contains_key(unescaped(self._redaction.redact_spellings(text)))

    def _count_beginning(self, text: bytes) -> int:
        """Return the length of the longest end of the text that a key begins with."""
        tail = text[-self._longest :]
        return next(
            (
                size
                for size in range(min(len(tail), self._longest - 1), 0, -1)
                if any(spelling.startswith(tail[-size:]) for spelling in self._spellings)
            ),
            0,
        )


def unescaped(text: bytes) -> bytes:
    """Replace the escapes of ASCII characters in JSON; other escapes, and text that is not JSON, stay."""
    return _ASCII_ESCAPES.sub(_unescape, text)


def _unescape(found: re.Match[bytes]) -> bytes:
    escapes = found[0]
    return b"/" if escapes == b"\\/" else unhexlify(escapes.replace(b"\\u00", b""))


def _spellings(key: str) -> Iterator[bytes]:
    """Yield the key in plain text, JSON, URL and base64, and as a part of a base64 text."""
    plain = key.encode()
    yield plain
    yield strict_json.write(key)[1:-1]
    yield quote(key, safe="").encode()
    for encode in (b64encode, urlsafe_b64encode):
        yield encode(plain).rstrip(b"=")
        for offset in range(3):
            # The first and last digit depend on the neighbours of the key, the others do not.
            yield encode(b"-" * offset + plain).rstrip(b"=")[(offset * 8 + 5) // 6 : -1]
