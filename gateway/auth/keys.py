"""Gateway keys: generation, checksum, and look-up of the client by the hash of the key that a request presents."""

from __future__ import annotations

import enum
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from hashlib import sha256
from typing import TypeAlias

from gateway.clock import Clock
from gateway.key_format import encode_key, is_well_formed

_RANDOM_BYTES = 32  # 256 bits cannot be guessed, so a fast hash is sufficient to store a key
_JWS_STARTS = ("ey", "ew")  # `{` and a quote or white space in base64url; gateway keys begin with `rw_`
_HASH_PATTERN = re.compile(r"sha256:([0-9a-fA-F]{64})", re.ASCII)

KeyHash: TypeAlias = tuple[str, datetime | None]
"""`sha256:<hex>` as `hash_key` returns it, and the time at which the key expires (with a time zone), or None."""


class KeyRefusal(enum.Enum):
    """Reason for the refusal of a key, for logs and metrics. The response is the same for all of them."""

    MISSING = "missing"
    MALFORMED = "malformed"
    UNKNOWN = "unknown"
    EXPIRED = "expired"
    REVOKED = "revoked"
    ROTATED = "rotated"
    NO_CLIENT = "no_client"
    NOT_SUPPORTED = "not_supported"


def new_key(clock: Clock) -> str:
    """Return a new key: `rw_`, 256 random bits in 43 base62 digits, and a CRC32 in 6."""
    return encode_key(clock.token(_RANDOM_BYTES))


def hash_key(text: str) -> str:
    """Return the hash of a key for the configuration: `sha256:<hex>`."""
    return "sha256:" + key_digest(text).hex()


def key_digest(text: str) -> bytes:
    """Return the SHA-256 of the text of a key, by which it is looked up."""
    return sha256(text.encode("utf-8", "surrogatepass")).digest()  # bytes above 0x7f of a header are lone surrogates


def may_be_token(text: str) -> bool:
    """Return whether a text has the form of a token, not of a gateway key."""
    return text[:2] in _JWS_STARTS and "." in text


class PresentedKey:
    """What a request presents as its key. `digest`: its SHA-256, by which it is looked up; empty without a key.

    `text`: the key, until `forget_text`. `may_be_token`: it has the form of a token, of which the text is needed.
    """

    __slots__ = ("_refusal", "digest", "may_be_token", "text")

    def __init__(self, text: str) -> None:
        """`text`: "" if the request has no key."""
        self.text = text
        self.digest = key_digest(text) if text else b""
        self.may_be_token = may_be_token(text)
        self._refusal: KeyRefusal | None = None

    @property
    def refusal(self) -> KeyRefusal:
        """Reason for the refusal if no key has the digest."""
        if self._refusal is None:
            self._refusal = _refusal(self.text)
        return self._refusal

    def forget_text(self) -> None:
        """Drop the text: what is kept for further requests must not contain a key."""
        self._refusal = self.refusal
        self.text = ""


class KeyRing:
    """The keys of all clients by hash; a look-up takes one hash, whatever the number of clients."""

    __slots__ = ("_owners",)

    def __init__(self, entries: Mapping[str, Iterable[KeyHash]]) -> None:
        """`entries`: the keys by client name. Raises ValueError, without the hash, for an invalid or repeated entry."""
        self._owners: dict[bytes, tuple[str, datetime | None]] = {}
        for client, keys in entries.items():
            for key_hash, expires in keys:
                self._add(client, key_hash, expires)

    def _add(self, client: str, key_hash: str, expires: datetime | None) -> None:
        match = _HASH_PATTERN.fullmatch(key_hash)
        if match is None:
            raise ValueError(f"client {client}: a key's hash is not sha256:<64 hex digits>")
        if expires is not None and expires.tzinfo is None:
            raise ValueError(f"client {client}: a key's expiry has no time zone")
        digest = bytes.fromhex(match[1])
        if digest in self._owners:
            raise ValueError(f"client {client}: a key's hash is listed twice (see client {self._owners[digest][0]})")
        self._owners[digest] = (client, expires)

    def __len__(self) -> int:
        return len(self._owners)

    def find(self, presented: PresentedKey, now: Callable[[], datetime]) -> str | KeyRefusal:
        """Return the name of the client with this key, or the reason for its refusal.

        `now` is called only for a key that expires.
        """
        owner = self._owners.get(presented.digest)
        if owner is None:
            return presented.refusal
        client, expires = owner
        if expires is not None and now() >= expires:
            return KeyRefusal.EXPIRED
        return client


def _refusal(presented: str) -> KeyRefusal:
    if not presented:
        return KeyRefusal.MISSING
    return KeyRefusal.UNKNOWN if is_well_formed(presented) else KeyRefusal.MALFORMED
