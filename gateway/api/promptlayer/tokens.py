"""Tickets for the WebSocket: who may hear what, for how long. They are signed, so that nobody has to keep them."""

from __future__ import annotations

import binascii
import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass, field
from datetime import datetime

from gateway import strictjson

LIFETIME = 3600
"""Seconds: the SDKs wait for a run that long, and come back with the same ticket whenever their connection drops."""
_MAX_LENGTH = 4096
_SIGNATURE_BYTES = 32


@dataclass(frozen=True, slots=True)
class ChannelToken:
    """`client` may listen to `channel` until `expires_at` (seconds since 1970)."""

    client: str
    channel: str
    expires_at: int


@dataclass(frozen=True, slots=True)
class ChannelTokens:
    """Writes tickets and reads them. Every replica that has the same `secret` takes the others' tickets."""

    secret: bytes = field(repr=False)

    def issue(self, client: str, channel: str, now: datetime) -> str:
        """Make a ticket that ends LIFETIME seconds after `now`."""
        payload = strictjson.write([client, channel, int(now.timestamp()) + LIFETIME])
        return urlsafe_b64encode(self._sign(payload) + payload).decode().rstrip("=")

    def verify(self, text: str, now: datetime) -> ChannelToken | None:
        """The ticket; None where it is none of ours, or is over."""
        if len(text) > _MAX_LENGTH or not text.isascii():
            return None
        try:
            raw = urlsafe_b64decode(text + "=" * (-len(text) % 4))
        except binascii.Error:
            return None
        signature, payload = raw[:_SIGNATURE_BYTES], raw[_SIGNATURE_BYTES:]
        if not hmac.compare_digest(signature, self._sign(payload)):
            return None
        value = strictjson.read(payload)
        match value:
            case [str(client), str(channel), int(expires_at)] if expires_at > now.timestamp():
                return ChannelToken(client, channel, expires_at)
        return None

    def _sign(self, payload: bytes) -> bytes:
        return hmac.digest(self.secret, b"ticket:" + payload, "sha256")
