"""Admission without a wait while the server is unavailable: its slots are known when the server returns."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, cast

import pytest
import structlog

from gateway.limits.config import LimitsConfig, ResourceLimitsConfig
from gateway.limits.limiter import Limiter
from gateway.limits.redis import counters as counters_module
from gateway.limits.redis.counters import RedisCounters
from tests.support.virtual_clock import VirtualClock


class SilentPipeline:
    """Script pipeline whose scripts have no result yet."""

    idle = True

    def __init__(self, *_: object, **__: object) -> None:
        """Connect to nothing."""

    def submit(self, *_: Sequence[object]) -> asyncio.Future[object]:
        """Return a result that does not arrive."""
        return asyncio.get_running_loop().create_future()


async def test_slots_taken_during_an_outage_are_held_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """R33: neither are they forgotten when the server returns, nor freed twice when it is lost again."""
    monkeypatch.setattr(counters_module, "ScriptPipeline", SilentPipeline)
    clock = VirtualClock()
    connection = cast("Any", type("Connection", (), {"timeout": 5.0})())
    counters = RedisCounters(connection, clock, structlog.get_logger(), server_time=False)
    config = LimitsConfig(clients={}, workflows={}, providers={"p": ResourceLimitsConfig(concurrency=3)})
    limiter = Limiter(clock, config, counters=counters)
    counters._report_change()  # as `open` without a server: this process counts
    held = [limiter.try_admit("c", "w", "p", deadline=1e9) for _ in range(4)]
    assert [True, True, True, False] == [admission is not None for admission in held]
    assert 3 == limiter.running("p")
    counters._set_shared(shared=True)
    assert 3 == limiter.running("p"), "the server returned"
    counters._set_shared(shared=False)
    for admission in held:
        if admission is not None:
            admission.release()
    assert 0 == limiter.running("p")
