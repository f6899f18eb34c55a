"""Format of gateway keys: `rw_`, 43 random base62 digits, and a checksum of 6."""

from __future__ import annotations

import re
import zlib

_PREFIX = "rw_"
_BASE62_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_RANDOM_WIDTH = 43  # base62 digits of 256 bits
_CHECKSUM_WIDTH = 6  # base62 digits of a CRC32
_KEY_PATTERN = re.compile(rf"{_PREFIX}[0-9A-Za-z]{{{_RANDOM_WIDTH + _CHECKSUM_WIDTH}}}", re.ASCII)


def encode_key(random: bytes) -> str:
    """Return the key with these 32 random bytes."""
    body = _PREFIX + _base62(int.from_bytes(random), _RANDOM_WIDTH)
    return body + _checksum(body)


def is_well_formed(text: str) -> bool:
    """Return True if `text` has the format and checksum of a key; one mistyped character is always detected."""
    # Both are computed in every case, so that the response time does not depend on the position of an error.
    pattern_match, checksum_matches = _KEY_PATTERN.fullmatch(text), text.endswith(_checksum(text[:-_CHECKSUM_WIDTH]))
    return pattern_match is not None and checksum_matches


def _checksum(body: str) -> str:
    # Header bytes above 0x7f arrive as lone surrogates.
    return _base62(zlib.crc32(body.encode("utf-8", "surrogatepass")), _CHECKSUM_WIDTH)


def _base62(number: int, width: int) -> str:
    digits = []
    for _ in range(width):
        number, digit = divmod(number, len(_BASE62_DIGITS))
        digits.append(_BASE62_DIGITS[digit])
    return "".join(reversed(digits))
