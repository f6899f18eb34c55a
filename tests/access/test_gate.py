"""A gate: a rate and slots, passed together."""

from __future__ import annotations

import math

import pytest

from gateway.access.gate import Gate
from gateway.access.limits import Rate, SharedLimits

NOW = 1000.0


def test_slots_close_it_until_one_is_free() -> None:
    gate = Gate("provider", SharedLimits(concurrency=2))
    gate.take(NOW)
    assert not gate.blocked(NOW)
    gate.take(NOW)
    assert gate.blocked(NOW + 1e9)
    assert math.inf == gate.opens_at()
    gate.free()
    assert not gate.blocked(NOW)


def test_a_rate_closes_it_for_a_time() -> None:
    gate = Gate("provider", SharedLimits(Rate(1), 1, concurrency=5))
    gate.take(NOW)
    assert gate.blocked(NOW + 0.9)
    assert not gate.blocked(NOW + 1)
    assert pytest.approx(NOW + 1, abs=1e-5) == gate.opens_at()


def test_without_limits_it_never_closes_and_waits_for_nobody() -> None:
    gate = Gate("workflow", SharedLimits(max_wait=0.5))
    for _ in range(1000):
        gate.take(NOW)
    assert not gate.blocked(NOW)
    assert (False, math.inf) == (gate.limited, gate.max_wait)


def test_no_slot_at_all_is_a_limit_too() -> None:
    gate = Gate("workflow", SharedLimits(concurrency=0))
    assert gate.limited
    assert gate.blocked(NOW)
