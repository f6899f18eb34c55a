"""Webhook callbacks: body and signature (Standard Webhooks 1.0.0)."""

from __future__ import annotations

import hmac
from base64 import b64decode, b64encode
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TypeAlias

from gateway.clock import format_rfc3339
from gateway.outbound.webhook.sender import WebhookMessage
from gateway.runs.model import RunSpec
from gateway.store.records import Delivery

CallbackRenderer: TypeAlias = Callable[[RunSpec, bytes, datetime], bytes]
"""Renders a body from the run's specification, its JSON, and the time of its end."""

_PREFIX = "whsec_"
_MIN_KEY_BYTES = 8


def render_callback(_spec: RunSpec, document: bytes, finished_at: datetime) -> bytes:
    """Render the body of Runward's own API; `document` is the JSON of `GET /runs/{id}`."""
    return b'{"type":"run.finished","timestamp":"%b","data":%b}' % (format_rfc3339(finished_at).encode(), document)


def signing_key(secret: str) -> bytes:
    """Return the key of a secret, which is "whsec_" and base64, or any text.

    Raises ValueError for invalid base64 after "whsec_", and for a key of less than eight bytes.
    """
    if not secret.startswith(_PREFIX):
        key = secret.encode()
    else:
        encoded = secret.removeprefix(_PREFIX)
        try:
            key = b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
        except ValueError:
            raise ValueError("a secret that begins with whsec_ must go on in base64") from None
    if len(key) < _MIN_KEY_BYTES:
        raise ValueError(f"the secret is shorter than {_MIN_KEY_BYTES} bytes")
    return key


def message_id(delivery: Delivery) -> str:
    """Return the id of a callback, the same for every attempt, so that a receiver can detect duplicates.

    A callback whose run turned out to have another end than `unknown` has another id.
    """
    return f"msg_{delivery.run_id}" + (f"_{delivery.revision}" if delivery.revision else "")


def sign_message(message_id: str, body: bytes, keys: Sequence[bytes], now: datetime) -> WebhookMessage:
    """Sign a body with each of the keys: during a rotation the receiver may have the new secret or the old one.

    `now`: the time of the attempt.
    """
    timestamp = int(now.timestamp())
    start = f"{message_id}.{timestamp}.".encode()
    return WebhookMessage(message_id, timestamp, " ".join(f"v1,{_sign(key, start, body)}" for key in keys), body)


def _sign(key: bytes, start: bytes, body: bytes) -> str:
    """Return the signature of `start` and `body`, which are not joined: the body may be large."""
    signature = hmac.new(key, start, "sha256")
    signature.update(body)
    return b64encode(signature.digest()).decode()
