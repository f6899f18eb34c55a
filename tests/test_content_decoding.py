"""Decoding of content codings: no output is held back."""

from __future__ import annotations

import zlib

from gateway.content_decoding import Decoder


def test_all_that_the_parts_so_far_hold_is_decoded() -> None:
    """Zlib may have read a part of the body whose output exceeds what it returns at once."""
    compressor = zlib.compressobj(9, zlib.DEFLATED, 31)
    body = compressor.compress(b"\0" * 500_000 + b"the key") + compressor.flush(zlib.Z_SYNC_FLUSH)
    held_back = []
    for cut in range(1, len(body) + 1):
        expected = len(zlib.decompressobj(31).decompress(body[:cut]))
        held_back.append(expected - sum(map(len, Decoder(1_000_000).feed(body[:cut]))))
    assert 0 == max(held_back)
