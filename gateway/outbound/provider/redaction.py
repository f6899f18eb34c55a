"""Redaction of provider keys in responses, in all their encodings: some providers quote the key in their errors."""

from __future__ import annotations

from base64 import b64encode, urlsafe_b64encode
from collections.abc import Iterator
from urllib.parse import quote

from gateway import lenient_json, strict_json

_MAX_REPLACED_KEYS = 8  # keys before the last change; each costs eleven searches in every response


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
        parsed = lenient_json.read(self._redact_spellings(content))
        if b"\\u" not in content and b"\\/" not in content:
            return parsed
        # Escapes may hide any character. Serialized again, there are none.
        written = strict_json.write(parsed.value)
        stripped = self._redact_spellings(written)
        return parsed if stripped is written else parsed._replace(value=strict_json.read_stored(stripped))

    def contains_key(self, text: bytes) -> bool:
        """Return True if a text contains a key."""
        return any(spelling in text for spelling in self._spellings)

    def redact(self, content: bytes) -> bytes:
        """Return a response with redacted keys; JSON with an escaped key is serialized again."""
        stripped = self._redact_spellings(content)
        if b"\\u" not in content and b"\\/" not in content:
            return stripped
        try:
            written = strict_json.write(lenient_json.read(stripped).value)
        except strict_json.NotJson:
            return stripped
        return self._redact_spellings(written) if self.contains_key(written) else stripped

    def _redact_spellings(self, text: bytes) -> bytes:
        for spelling in self._spellings:
            if spelling in text:
                text = text.replace(spelling, b"[redacted]")
        return text


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
