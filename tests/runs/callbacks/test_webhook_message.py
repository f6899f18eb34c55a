"""Callbacks: body and signature."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from gateway.clock import SystemClock
from gateway.outbound.webhook.sender import WebhookMessage
from gateway.runs.callbacks.webhook_message import message_id, render_callback, sign_message, signing_key
from gateway.runs.model import RunSpec
from gateway.store.records import Delivery
from tests.support.clock import ManualClock

NEW_SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()
OLD_SECRET = "whsec_" + base64.b64encode(bytes(range(32, 64))).decode()
RUN = "run_0123456789abcdef0123456789abcdef"
BODY = b'{"type":"run.finished","data":{"output":"\xc3\xbc"}}'


def headers(message: WebhookMessage) -> dict[str, str]:
    return {
        "webhook-id": message.id,
        "webhook-timestamp": str(message.timestamp),
        "webhook-signature": message.signature,
    }


def verify_with_library(message: WebhookMessage, secret: str | bytes) -> object:
    """Return the body as an independent library verifies it; raises for an invalid signature."""
    return Webhook(secret).verify(message.body, headers(message))


def sign(*secrets: str, body: bytes = BODY) -> WebhookMessage:
    return sign_message(f"msg_{RUN}", body, [signing_key(secret) for secret in secrets], SystemClock.now())


def test_payload() -> None:
    """An event with the run exactly as GET /runs/{id} shows it."""
    document = b'{"id":"run_1","output":12345678901234567890123456789,"warning":null}'
    body = render_callback(RunSpec("one", "w", 60), document, datetime(2026, 11, 21, 12, 0, 0, 5000, tzinfo=UTC))
    assert document in body
    assert {
        "type": "run.finished",
        "timestamp": "2026-11-21T12:00:00.005Z",
        "data": json.loads(document),
    } == json.loads(body)


def test_signature() -> None:
    """R50: an independent library verifies it over the raw bytes."""
    assert json.loads(BODY) == verify_with_library(sign(NEW_SECRET), NEW_SECRET)


def test_another_body_id_time_or_secret_fails_verification() -> None:
    """R50: every signed part is verified."""
    message = sign(NEW_SECRET)
    forged = [
        WebhookMessage(message.id, message.timestamp, message.signature, BODY + b" "),
        WebhookMessage(message.id + "0", message.timestamp, message.signature, BODY),
        WebhookMessage(message.id, message.timestamp + 1, message.signature, BODY),
    ]
    for each, secret in [*((each, NEW_SECRET) for each in forged), (message, OLD_SECRET)]:
        with pytest.raises(WebhookVerificationError):
            verify_with_library(each, secret)


@pytest.mark.parametrize(("revision", "expected"), [(0, f"msg_{RUN}"), (1, f"msg_{RUN}_1")])
def test_a_callback_with_another_end_has_another_id(revision: int, expected: str) -> None:
    """A receiver that has seen `unknown` must not take the true end for a duplicate. Attempts do not change the id."""
    ids = {message_id(Delivery(RUN, "one", "https://a.example/", len(BODY), 0.0, n, revision)) for n in range(3)}
    assert {expected} == ids


def test_id_and_timestamp() -> None:
    """R50: the id is that of the callback, the timestamp that of the attempt, so the signature differs each time."""
    clock = ManualClock()
    first = sign_message(f"msg_{RUN}", BODY, [b"a secret"], clock.now())
    clock.advance(5.9)
    second = sign_message(f"msg_{RUN}", BODY, [b"a secret"], clock.now())
    assert f"msg_{RUN}" == first.id == second.id
    assert (int(datetime(2026, 11, 21, 12, tzinfo=UTC).timestamp()), 5) == (
        first.timestamp,
        second.timestamp - first.timestamp,
    )
    assert first.signature != second.signature


def test_two_secrets() -> None:
    """R51: while a secret is replaced both verify; afterwards the new one only."""
    both, after = sign(NEW_SECRET, OLD_SECRET), sign(NEW_SECRET)
    assert 2 == len(both.signature.split(" "))
    assert (
        verify_with_library(both, NEW_SECRET)
        == verify_with_library(both, OLD_SECRET)
        == verify_with_library(after, NEW_SECRET)
    )
    with pytest.raises(WebhookVerificationError):
        verify_with_library(after, OLD_SECRET)


def test_no_secrets() -> None:
    """Signing without a secret is an error."""
    assert sign().signature == ""


@pytest.mark.parametrize(
    ("secret", "key"),
    [
        ("whsec_MDEyMzQ1Njc4OWFi", b"0123456789ab"),
        ("whsec_MDEyMzQ1Njc4OQ==", b"0123456789"),
        ("whsec_MDEyMzQ1Njc4OQ", b"0123456789"),
        ("just some text", b"just some text"),
        ("MDEyMzQ1Njc4OWFi", b"MDEyMzQ1Njc4OWFi"),
    ],
)
def test_signing_key(secret: str, key: bytes) -> None:
    """whsec_ announces base64, with or without padding; everything else is the key itself."""
    assert key == signing_key(secret)
    assert verify_with_library(sign(secret), key)


@pytest.mark.parametrize("secret", ["whsec_", "whsec_MDE=", "whsec_not base64!!", "whsec_MDEyMzQ1Njc4OQ=a", "seven77"])
def test_not_a_signing_key(secret: str) -> None:
    """An invalid secret is refused when it is parsed, and its text is not quoted."""
    with pytest.raises(ValueError, match="secret") as refused:
        signing_key(secret)
    assert secret not in str(refused.value)
