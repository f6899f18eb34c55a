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
_LONGEST = 4096
_SIGNATURE = 32


@dataclass(frozen=True, slots=True)
class Ticket:
    """`client` may listen to `channel` until `expires_at` (seconds since 1970)."""

    client: str
    channel: str
    expires_at: int


@dataclass(frozen=True, slots=True)
class Tickets:
    """Writes tickets and reads them. Every replica that has the same `secret` takes the others' tickets."""

    secret: bytes = field(repr=False)

    def write(self, client: str, channel: str, now: datetime) -> str:
        """Make a ticket that ends LIFETIME seconds after `now`."""
        told = strictjson.write([client, channel, int(now.timestamp()) + LIFETIME])
        return urlsafe_b64encode(self._sign(told) + told).decode().rstrip("=")

    def read(self, text: str, now: datetime) -> Ticket | None:
        """The ticket; None where it is none of ours, or is over."""
        if len(text) > _LONGEST or not text.isascii():
            return None
        try:
            raw = urlsafe_b64decode(text + "=" * (-len(text) % 4))
        except binascii.Error:
            return None
        signature, told = raw[:_SIGNATURE], raw[_SIGNATURE:]
        if not hmac.compare_digest(signature, self._sign(told)):
            return None
        value = strictjson.read(told)
        match value:
            case [str(client), str(channel), int(expires_at)] if expires_at > now.timestamp():
                return Ticket(client, channel, expires_at)
        return None

    def _sign(self, told: bytes) -> bytes:
        return hmac.digest(self.secret, b"ticket:" + told, "sha256")
