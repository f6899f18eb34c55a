"""Content codings of passed-through bodies: gzip and deflate are decoded to find keys, and sent as they came."""

from __future__ import annotations

import zlib

_DETECT_FORMAT = 47  # zlib: a gzip or zlib header, with the largest window
_RAW_DEFLATE = -15  # some servers send "deflate" without a header
_OUTPUT_BYTES = 65_536  # decoded at once
CODINGS = frozenset({"gzip", "x-gzip", "deflate"})
"""Codings that can be decoded, in lower case; "identity" is no coding."""


class UndecodableError(ValueError):
    """The bytes are not what their coding says, or are larger than allowed once decoded."""


class Decoder:
    """Incremental decoder of at most `max_bytes` decoded bytes; a gzip body may have several members."""

    def __init__(self, max_bytes: int) -> None:
        self._remaining = max_bytes
        self._decompressor = zlib.decompressobj(_DETECT_FORMAT)
        self._is_first = True

    @property
    def complete(self) -> bool:
        """True at the end of the coded body."""
        return self._decompressor.eof

    def feed(self, data: bytes) -> list[bytes]:
        """Decode the next part of the body. Raises UndecodableError."""
        decoded = []
        has_output = False  # zlib has read all of `data`, and may hold more of its output back
        while data or (has_output and not self._decompressor.eof):
            if self._decompressor.eof:
                self._decompressor = zlib.decompressobj(_DETECT_FORMAT)
            part = self._decompress(data)
            self._remaining -= len(part)
            if self._remaining < 0:
                raise UndecodableError("the decoded body is too large")
            decoded.append(part)
            has_output = len(part) == _OUTPUT_BYTES
            data = self._decompressor.unconsumed_tail or self._decompressor.unused_data
        return decoded

    def _decompress(self, data: bytes) -> bytes:
        is_first, self._is_first = self._is_first, False
        try:
            return self._decompressor.decompress(data, _OUTPUT_BYTES)
        except zlib.error:
            if not is_first:
                raise UndecodableError("the body is not encoded as its Content-Encoding says") from None
        self._decompressor = zlib.decompressobj(_RAW_DEFLATE)
        return self._decompress(data)


def decode(body: bytes, max_bytes: int) -> bytes:
    """Decode a whole body. Raises UndecodableError, also for a body that is cut."""
    decoder = Decoder(max_bytes)
    decoded = decoder.feed(body)
    if body and not decoder.complete:
        raise UndecodableError("the body is not encoded as its Content-Encoding says")
    return b"".join(decoded)
