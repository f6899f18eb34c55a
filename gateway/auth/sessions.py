"""Sessions of the console: signed tokens that stand for a key of the operations port, without containing it.

A token is `<expiry>.<key id>.<signature>`. Nothing is stored for it: the secret of the signature is in the store, so
every replica and every worker accepts it. It ends 12 hours after its issue, and as soon as its key has expired or is no
longer configured. To log out removes the cookie; a copy of its token stays valid until then, unless its key is removed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from hmac import compare_digest, digest
from typing import Protocol

from gateway.auth.ops_keys import OpsKey
from gateway.clock import Clock

SESSION_SECONDS = 12 * 3600
"""Lifetime of a session."""
_SECRET_NAME = "console"  # noqa: S105 - the name of the secret in the store
_SECRET_BYTES = 32

_parse = re.compile(r"([0-9]{1,12})\.([0-9a-f]{32})\.([0-9a-f]{64})", re.ASCII).fullmatch


class SecretStore(Protocol):
    """The part of `Store` that sessions need."""

    async def get_or_create_secret(self, name: str, default: bytes) -> bytes:
        """See `Store.get_or_create_secret`. Raises StoreUnavailable."""


@dataclass(slots=True)
class Sessions:
    """Issues and checks tokens; the secret is read from the store once."""

    store: SecretStore
    clock: Clock
    _secret: bytes | None = None

    async def issue(self, key: OpsKey) -> str:
        """Return a token for this key. Raises StoreUnavailable."""
        secret = await self._load()
        expires_at = int(self.clock.now().timestamp()) + SESSION_SECONDS
        content = f"{expires_at}.{_key_id(secret, key)}"
        return f"{content}.{_signature(secret, content)}"

    async def find(self, token: str, keys: Iterable[OpsKey]) -> OpsKey | None:
        """Return the key of a token; None if it is forged, or no longer valid. Raises StoreUnavailable."""
        match = _parse(token)
        if match is None:
            return None
        secret = await self._load()
        now = self.clock.now()
        genuine = compare_digest(match[3], _signature(secret, f"{match[1]}.{match[2]}"))
        if not genuine or now.timestamp() >= int(match[1]):
            return None
        found = [key for key in keys if compare_digest(match[2], _key_id(secret, key)) and not key.is_expired(now)]
        return found[0] if found else None

    async def _load(self) -> bytes:
        if self._secret is None:
            self._secret = await load_secret(self.store, self.clock)
        return self._secret


async def load_secret(store: SecretStore, clock: Clock) -> bytes:
    """Return the secret of sessions, which all replicas share. Raises StoreUnavailable."""
    return await store.get_or_create_secret(_SECRET_NAME, clock.token(_SECRET_BYTES))


def _key_id(secret: bytes, key: OpsKey) -> str:
    """Return an identifier of the key that says nothing about its hash."""
    return digest(secret, b"key:" + key.hash.lower().encode(), sha256)[:16].hex()


def _signature(secret: bytes, content: str) -> str:
    return digest(secret, b"session:" + content.encode(), sha256).hex()
