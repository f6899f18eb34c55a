"""Callbacks: body, signature and retry schedule."""

from __future__ import annotations

import base64
import itertools
import json
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook, WebhookVerificationError

from gateway.clock import SystemClock
from gateway.outbound.webhook.http1_connection import DeliveryFault
from gateway.outbound.webhook.sender import DeliveryResult, WebhookMessage, WebhookResponse
from gateway.runs.callbacks.webhook_message import (
    Abandoned,
    Delivered,
    RetryAt,
    message_id,
    next_attempt,
    render_callback,
    sign_message,
    signing_key,
)
from gateway.runs.model import RunSpec
from gateway.settings.sections import STANDARD_SCHEDULE
from gateway.store.contract import Delivery
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


def seconds_until_retry(
    result: DeliveryResult, schedule: tuple[float, ...] = (0.0, 100.0), *, attempts: int = 1, seed: int = 1
) -> float:
    """Return the seconds until the next attempt."""
    clock = ManualClock(seed=seed)
    step = next_attempt(attempts, result, schedule, clock)
    assert isinstance(step, RetryAt), step
    return step.due_at - clock.now().timestamp()


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_delivered(status: int) -> None:
    """Every 2xx acknowledges the delivery, also at the last attempt."""
    assert [Delivered()] * 2 == [
        next_attempt(n, WebhookResponse(status, 5.0), (0.0, 5.0), ManualClock()) for n in (1, 2)
    ]


def test_gone() -> None:
    """R52: 410 ends the schedule."""
    assert Abandoned("gone") == next_attempt(1, WebhookResponse(410, 5.0), STANDARD_SCHEDULE, ManualClock())


@pytest.mark.parametrize(
    "result", [*map(WebhookResponse, (301, 302, 307, 400, 401, 404, 429, 500, 502, 503, 999)), *DeliveryFault]
)
def test_every_other_result_is_retried(result: DeliveryResult) -> None:
    """R52, R59: redirects, errors and faults, until the schedule is exhausted."""
    assert isinstance(next_attempt(1, result, (0.0, 5.0), ManualClock()), RetryAt)
    assert Abandoned("exhausted") == next_attempt(2, result, (0.0, 5.0), ManualClock())
    assert Abandoned("exhausted") == next_attempt(1, result, (7.0,), ManualClock())
    assert Abandoned("exhausted") == next_attempt(3, result, (0.0, 5.0), ManualClock())


@given(
    attempts=st.integers(1, 9),
    seed=st.integers(),
    result=st.sampled_from([WebhookResponse(500), WebhookResponse(302), *DeliveryFault]),
)
def test_jitter(attempts: int, seed: int, result: DeliveryResult) -> None:
    """R52: each delay of the standard schedule varies by at most a fifth."""
    delay = STANDARD_SCHEDULE[attempts]
    due = seconds_until_retry(result, STANDARD_SCHEDULE, attempts=attempts, seed=seed)
    assert 0.8 * delay - 0.001 <= due <= 1.2 * delay + 0.001


def test_jitter_spreads() -> None:
    """Retries of deliveries that failed together use the whole range."""
    dues = sorted(seconds_until_retry(DeliveryFault.TIMEOUT, seed=seed) for seed in range(200))
    assert dues[0] < 82
    assert dues[-1] > 118
    assert max(after - before for before, after in itertools.pairwise(dues)) < 5


@given(hint=st.floats(0, 86_400), status=st.sampled_from([429, 500, 502, 503, 504]), seed=st.integers())
def test_retry_after(hint: float, status: int, seed: int) -> None:
    """R52: the later of Retry-After and the schedule."""
    without, due = (seconds_until_retry(WebhookResponse(status, asked), seed=seed) for asked in (None, hint))
    assert abs(max(without, hint) - due) < 0.001


def test_the_standard_schedule_takes_three_days() -> None:
    """Ten attempts: at once, and the last one about 76 hours later."""
    clock = ManualClock()
    started, attempts = clock.now(), 1
    while isinstance(step := next_attempt(attempts, DeliveryFault.UNREACHABLE, STANDARD_SCHEDULE, clock), RetryAt):
        clock.advance(step.due_at - clock.now().timestamp())
        attempts += 1
    assert (Abandoned("exhausted"), 10) == (step, attempts)
    assert timedelta(hours=60) < clock.now() - started < timedelta(hours=91)
