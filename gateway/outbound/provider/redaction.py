"""Takes our keys out of what a provider says, however they are spelled there: some quote them in their errors."""

from __future__ import annotations

from base64 import b64encode, urlsafe_b64encode
from collections.abc import Iterator
from urllib.parse import quote

from gateway import lenient_json, strictjson

_MAX_REPLACED_KEYS = 8  # replaced keys; each costs eleven searches in every answer


class Redaction:
    """Reads answers without some keys. One in which none of them stands costs a few searches for each."""

    __slots__ = ("_keys", "_spellings")

    def __init__(self, *keys: str) -> None:
        self._keys = keys
        self._spellings = tuple(dict.fromkeys(spelling for key in keys for spelling in _spellings(key)))

    def with_keys_of(self, earlier: Redaction) -> Redaction:
        """The same, and without the newest keys of an earlier one: it may be quoted long after it was replaced."""
        return Redaction(*dict.fromkeys((*self._keys, *earlier._keys[:_MAX_REPLACED_KEYS])))

    def parse_response(self, content: bytes) -> lenient_json.Repaired:
        """Parse a response leniently, with "[redacted]" in the key's place; NotJson where it is not JSON."""
        parsed = lenient_json.read(self._redact_spellings(content))
        if b"\\u" not in content and b"\\/" not in content:
            return parsed
        # Behind escapes any character may hide. Written anew there are none.
        written = strictjson.write(parsed.value)
        stripped = self._redact_spellings(written)
        return parsed if stripped is written else parsed._replace(value=strictjson.read_stored(stripped))

    def contains_key(self, text: bytes) -> bool:
        """Whether the key stands in a text."""
        return any(spelling in text for spelling in self._spellings)

    def redact(self, content: bytes) -> bytes:
        """The answer with "[redacted]" in the key's place, whatever it is; JSON that hides it is written anew."""
        stripped = self._redact_spellings(content)
        if b"\\u" not in content and b"\\/" not in content:
            return stripped
        try:
            written = strictjson.write(lenient_json.read(stripped).value)
        except strictjson.NotJson:
            return stripped
        return self._redact_spellings(written) if self.contains_key(written) else stripped

    def _redact_spellings(self, text: bytes) -> bytes:
        for spelling in self._spellings:
            if spelling in text:
                text = text.replace(spelling, b"[redacted]")
        return text


def _spellings(key: str) -> Iterator[bytes]:
    """The key plain, in JSON, in a URL, in base64, and within something in base64."""
    plain = key.encode()
    yield plain
    yield strictjson.write(key)[1:-1]
    yield quote(key, safe="").encode()
    for encode in (b64encode, urlsafe_b64encode):
        yield encode(plain).rstrip(b"=")
        for offset in range(3):
            # Its first and last digit depend on what stands beside the key, those between them do not.
            yield encode(b"-" * offset + plain).rstrip(b"=")[(offset * 8 + 5) // 6 : -1]
