"""Callbacks: retry schedule."""

from __future__ import annotations

import itertools
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.outbound.webhook.http1_connection import DeliveryFault
from gateway.outbound.webhook.sender import DeliveryResult, WebhookResponse
from gateway.runs.callbacks.retry_schedule import Abandoned, Delivered, RetryAt, next_attempt
from gateway.settings.sections import STANDARD_SCHEDULE
from tests.support.clock import ManualClock


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
