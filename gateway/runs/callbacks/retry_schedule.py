"""Retry schedule of callbacks: what follows each attempt, and the delay before the next one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from gateway.clock import Clock
from gateway.outbound.webhook.sender import DeliveryResult, WebhookResponse

_JITTER = 0.2


@dataclass(frozen=True, slots=True)
class Delivered:
    """The receiver has accepted the callback."""


@dataclass(frozen=True, slots=True)
class Abandoned:
    """The receiver answered 410, or the schedule is exhausted."""

    reason: Literal["gone", "exhausted"]


@dataclass(frozen=True, slots=True)
class RetryAt:
    """The callback is due again at `due_at`, in seconds since 1970."""

    due_at: float


DeliveryDecision: TypeAlias = Delivered | Abandoned | RetryAt


def with_jitter(delay: float, clock: Clock) -> float:
    """Return the delay with jitter of ±20 %, so that callbacks that failed together are not retried together."""
    return delay * (1 - _JITTER + 2 * _JITTER * clock.random())


def next_attempt(attempts: int, result: DeliveryResult, schedule: Sequence[float], clock: Clock) -> DeliveryDecision:
    """Decide what follows the result of attempt number `attempts`.

    `schedule`: delays in seconds before each attempt, the first one included. A delay has jitter, and is at least
    `Retry-After`.
    """
    if isinstance(result, WebhookResponse):
        if 200 <= result.status < 300:
            return Delivered()
        if result.status == 410:
            return Abandoned("gone")
    if attempts >= len(schedule):
        return Abandoned("exhausted")
    delay = with_jitter(schedule[attempts], clock)
    retry_after = result.retry_after if isinstance(result, WebhookResponse) else None
    return RetryAt(clock.now().timestamp() + max(delay, retry_after or 0.0))
