"""Shared limiter: a rate and slots, taken together."""

from __future__ import annotations

import math

import pytest

from gateway.limits.config import RateLimit, ResourceLimitsConfig
from gateway.limits.resource_limiter import ResourceLimiter

NOW = 1000.0


def test_used_up_slots_block_until_one_is_free() -> None:
    limiter = ResourceLimiter("provider", ResourceLimitsConfig(concurrency=2))
    limiter.take(NOW)
    assert not limiter.blocked(NOW)
    limiter.take(NOW)
    assert limiter.blocked(NOW + 1e9)
    assert math.inf == limiter.available_at()
    limiter.release()
    assert not limiter.blocked(NOW)


def test_a_used_up_rate_blocks_for_a_time() -> None:
    limiter = ResourceLimiter("provider", ResourceLimitsConfig(RateLimit(1), 1, concurrency=5))
    limiter.take(NOW)
    assert limiter.blocked(NOW + 0.9)
    assert not limiter.blocked(NOW + 1)
    assert pytest.approx(NOW + 1, abs=1e-5) == limiter.available_at()


def test_without_limits_it_is_never_blocked() -> None:
    limiter = ResourceLimiter("workflow", ResourceLimitsConfig(max_wait=0.5))
    for _ in range(1000):
        limiter.take(NOW)
    assert not limiter.blocked(NOW)
    assert (False, math.inf) == (limiter.limited, limiter.max_wait)


def test_no_slot_at_all_is_a_limit_too() -> None:
    limiter = ResourceLimiter("workflow", ResourceLimitsConfig(concurrency=0))
    assert limiter.limited
    assert limiter.blocked(NOW)
