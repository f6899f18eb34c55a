"""Encryption of single values: AES-256-GCM with rotated keys, bound to what a value is and to the run it belongs to.

An encrypted value has four parts: `MAGIC`; the id of its key (8 bytes of a hash); a random nonce (12 bytes); the
ciphertext with its tag (16 bytes). The first two parts and the binding are authenticated, so that a value is refused in
the place of another one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING

from gateway.store.contract import ContentUnreadable

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

MAGIC = b"\0runwrd\x01"
"""Start of an encrypted value; the last byte is the version of its form. No JSON text starts so."""
_KEY_ID_BYTES, _NONCE_BYTES, _TAG_BYTES = 8, 12, 16
_HEADER_BYTES = len(MAGIC) + _KEY_ID_BYTES
OVERHEAD = _HEADER_BYTES + _NONCE_BYTES + _TAG_BYTES
"""Bytes by which an encrypted value is longer than the value in clear."""


def is_encrypted(value: bytes) -> bool:
    """Return whether a value of the store is encrypted."""
    return value.startswith(MAGIC)


def key_id(key: bytes) -> bytes:
    """Return the id of a key, which stands in the values that it has encrypted."""
    return hashlib.sha256(b"runward content key\0" + key).digest()[:_KEY_ID_BYTES]


class ContentCipher:
    """Encrypts with the first of `keys`, and decrypts with any; without keys values stay in clear.

    `random_bytes` returns so many cryptographically random bytes. Raises ModuleNotFoundError if there are keys and the
    cryptography library is missing.
    """

    def __init__(self, keys: Sequence[bytes] = (), random_bytes: Callable[[int], bytes] = bytes) -> None:
        self._random_bytes = random_bytes
        self._ciphers: dict[bytes, AESGCM] = {}
        self.encrypts = bool(keys)
        if keys:  # the library takes a share of the start, and is an optional dependency
            from cryptography.hazmat.primitives.ciphers.aead import AESGCM

            self._ciphers = {key_id(key): AESGCM(key) for key in keys}
            self._header = MAGIC + key_id(keys[0])
            self._newest = AESGCM(keys[0])

    @property
    def key_ids(self) -> AbstractSet[bytes]:
        """Ids of the keys that can decrypt."""
        return self._ciphers.keys()

    def encrypt(self, value: bytes, *binding: str) -> bytes:
        """Return the value encrypted, or in clear if there are no keys. `binding`: its kind, and its place."""
        if not self.encrypts:
            return value
        nonce = self._random_bytes(_NONCE_BYTES)
        return self._header + nonce + self._newest.encrypt(nonce, value, _authenticated(self._header, binding))

    def decrypt(self, value: bytes, *binding: str) -> bytes:
        """Return a value of the store in clear; one that was stored in clear is returned as it is.

        Raises ContentUnreadable if its key is not among `keys`, or if it was changed or moved.
        """
        if not value.startswith(MAGIC):
            return value
        header, end = value[:_HEADER_BYTES], _HEADER_BYTES + _NONCE_BYTES
        cipher = self._ciphers.get(header[len(MAGIC) :])
        if cipher is None:
            raise ContentUnreadable(f"encrypted with a key that is not configured ({header[len(MAGIC) :].hex()})")
        from cryptography.exceptions import InvalidTag

        try:
            return cipher.decrypt(value[_HEADER_BYTES:end], value[end:], _authenticated(header, binding))
        except (InvalidTag, ValueError):  # ValueError: cut off
            raise ContentUnreadable("an encrypted value was changed, or belongs to another run") from None


def _authenticated(header: bytes, binding: Sequence[str]) -> bytes:
    """Return the data that the tag covers besides the value: unambiguous, because each text has its length in front."""
    texts = [text.encode("utf-8", "surrogatepass") for text in binding]
    return header + b"".join(len(text).to_bytes(4, "big") + text for text in texts)
