"""Signed tokens for the WebSocket: client, channel and expiry. They are not stored."""

from __future__ import annotations

import binascii
import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass, field
from datetime import datetime

from gateway.json import strict_json

LIFETIME = 3600
"""Lifetime in seconds: the SDKs wait an hour for a run, and reconnect with the same token."""
_MAX_LENGTH = 4096
_SIGNATURE_BYTES = 32


@dataclass(frozen=True, slots=True)
class ChannelToken:
    """`client` may subscribe to `channel` until `expires_at` (seconds since the epoch)."""

    client: str
    channel: str
    expires_at: int


@dataclass(frozen=True, slots=True)
class ChannelTokens:
    """Issues and verifies tokens. Replicas with the same `secret` accept each other's tokens."""

    secret: bytes = field(repr=False)

    def issue(self, client: str, channel: str, now: datetime) -> str:
        """Issue a token that expires LIFETIME seconds after `now`."""
        payload = strict_json.write([client, channel, int(now.timestamp()) + LIFETIME])
        return urlsafe_b64encode(self._sign(payload) + payload).decode().rstrip("=")

    def verify(self, text: str, now: datetime) -> ChannelToken | None:
        """The token. None if the signature is not valid or the token has expired."""
        if len(text) > _MAX_LENGTH or not text.isascii():
            return None
        try:
            raw = urlsafe_b64decode(text + "=" * (-len(text) % 4))
        except binascii.Error:
            return None
        signature, payload = raw[:_SIGNATURE_BYTES], raw[_SIGNATURE_BYTES:]
        if not hmac.compare_digest(signature, self._sign(payload)):
            return None
        value = strict_json.read(payload)
        match value:
            case [str(client), str(channel), int(expires_at)] if expires_at > now.timestamp():
                return ChannelToken(client, channel, expires_at)
        return None

    def _sign(self, payload: bytes) -> bytes:
        return hmac.digest(self.secret, b"ticket:" + payload, "sha256")
