"""Names of runs that strangers may carry and nobody can make: the run's id, and a MAC of it."""

from __future__ import annotations

import hmac
from base64 import urlsafe_b64encode

_MAX_LENGTH = 200
_PURPOSE = b"hint"


class HintTokens:
    """Seals ids with `secret` (32 bytes that replicas share), so that any of them can tell a seal of ours.

    A seal is of letters, digits, "_", "-" and one ".", and good for one purpose only.
    """

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def issue(self, run_id: str) -> str:
        """The seal that lets somebody say that this run has ended."""
        return f"{run_id}.{self._mac(_PURPOSE, run_id)}"

    def verify(self, token: str) -> str | None:
        """The id of the run whose hint this is, or None; it takes as long whichever byte is wrong."""
        run_id, _, mac = token[:_MAX_LENGTH].rpartition(".")
        valid = hmac.compare_digest(mac.encode("utf-8", "replace"), self._mac(_PURPOSE, run_id).encode())
        return run_id if valid and len(token) <= _MAX_LENGTH else None

    def _mac(self, purpose: bytes, name: str) -> str:
        text = purpose + b"\0" + name.encode("utf-8", "replace")
        return urlsafe_b64encode(hmac.digest(self._secret, text, "sha256")).decode().rstrip("=")
