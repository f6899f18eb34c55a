"""Signed tokens of poll hints: a run id and its MAC (HMAC-SHA-256)."""

from __future__ import annotations

import hmac
from base64 import urlsafe_b64encode

_MAX_LENGTH = 200
_PURPOSE = b"hint"


class HintTokens:
    """Issues and verifies tokens with `secret`: 32 bytes that all replicas share.

    A token consists of letters, digits, "_", "-" and one ".", and is valid for hints only.
    """

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def issue(self, run_id: str) -> str:
        """Return the token for hints about this run."""
        return f"{run_id}.{self._mac(_PURPOSE, run_id)}"

    def verify(self, token: str) -> str | None:
        """Return the run id of a valid token, or None; compares in constant time."""
        run_id, _, mac = token[:_MAX_LENGTH].rpartition(".")
        valid = hmac.compare_digest(mac.encode("utf-8", "replace"), self._mac(_PURPOSE, run_id).encode())
        return run_id if valid and len(token) <= _MAX_LENGTH else None

    def _mac(self, purpose: bytes, name: str) -> str:
        text = purpose + b"\0" + name.encode("utf-8", "replace")
        return urlsafe_b64encode(hmac.digest(self._secret, text, "sha256")).decode().rstrip("=")
