"""Parity of shared and local counters: the same scenario has the same results with both."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.errors import RunError
from gateway.limits.admission import Admission
from gateway.limits.config import ClientLimitsConfig, KeyLimits, RateLimit, ResourceLimitsConfig
from tests.limits.harness import LimiterHarness
from tests.limits.redis.harness import RedisLimiterHarness, flush_server
from tests.support.examples import examples
from tests.support.valkey import running_server

CLIENTS = {"a": ClientLimitsConfig(RateLimit(20), 5, 3, daily=12), "b": ClientLimitsConfig(concurrency=2)}
TEAMS = {"t": ClientLimitsConfig(RateLimit(15), 4, 4)}
TEAM_OF = {"b": "t", "c": "t"}
KEYS = {"c": KeyLimits("key_1", ClientLimitsConfig(RateLimit(5), 2, 2, daily=9))}
WORKFLOWS = {"slow": ResourceLimitsConfig(RateLimit(4), 2, concurrency=1, max_wait=0.4)}
PROVIDERS = {
    "p": ResourceLimitsConfig(RateLimit(10), 3, concurrency=3, max_wait=0.6),
    "q": ResourceLimitsConfig(concurrency=1),
}

STEP = st.one_of(
    st.tuples(
        st.just("admit"),
        st.sampled_from("abc"),
        st.sampled_from([("w", "p"), ("w", "q"), ("slow", "p")]),
        st.floats(0.01, 1.5),
        st.sampled_from([None, 1.0, math.inf]),
    ),
    st.tuples(st.sampled_from(["release", "refund", "cancel", "admit_retry", "admit_poll"]), st.integers(0, 9)),
    st.tuples(
        st.just("move_to_fallback"), st.integers(0, 9), st.sampled_from([("w", "p"), ("w", "q")]), st.floats(0.01, 1.5)
    ),
    st.tuples(st.just("pass"), st.floats(0.0, 0.5)),
)


@dataclass
class RecordedScenario:
    """Results of the steps of one scenario."""

    harness: LimiterHarness
    admissions: list[Admission] = field(default_factory=list)
    busy: dict[Admission, asyncio.Task[None]] = field(default_factory=dict)
    tasks: list[asyncio.Task[None]] = field(default_factory=list)
    results: dict[int, tuple[Any, ...]] = field(default_factory=dict)

    def start_task(self, work: Coroutine[object, object, Admission | None], admission: Admission | None = None) -> None:
        """Start a task and record its result; a run does one thing at a time."""
        if admission is not None and admission in self.busy and not self.busy[admission].done():
            work.close()
            return
        number = len(self.tasks)

        async def record() -> None:
            try:
                result = await work
            except RunError as problem:
                what: tuple[Any, ...] = (type(problem), problem.retry_after or 0.0, problem.headers, problem.ending)
            except asyncio.CancelledError:
                what = ("cancelled",)
            else:
                what = ("done", result.headers if result else ())
                if result is not None:
                    self.admissions.append(result)
            self.results[number] = (round(self.harness.now, 4), *what)

        self.tasks.append(self.harness.start_task(record()))
        if admission is not None:
            self.busy[admission] = self.tasks[-1]

    async def run(self, steps: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
        """Execute the steps; return the result of each task, in order."""
        for step in steps:
            await self._apply_step(*step)
            if step[0] != "cancel":
                await self.harness.clock.run_ready_tasks()
        await self.harness.clock.run_for(30)
        await asyncio.gather(*self.tasks)
        for admission in self.admissions:
            admission.release()
        await self.harness.clock.run_ready_tasks()
        assert (0, 0) == (self.harness.limiter.waiting("p"), self.harness.limiter.waiting("q"))
        return [self.results[number] for number in range(len(self.tasks))]

    async def _apply_step(self, what: str, *rest: Any) -> None:
        harness, now = self.harness, self.harness.now
        if what == "admit":
            client, names, within, max_wait = rest
            admit = harness.limiter.admit(
                client, *names, deadline=now + within, max_wait=max_wait, key_limits=KEYS.get(client)
            )
            self.start_task(admit)
        elif what == "pass":
            await harness.clock.run_for(rest[0])
        elif what == "cancel" and self.tasks:
            self.tasks[rest[0] % len(self.tasks)].cancel()
        elif what != "cancel" and self.admissions:
            admission = self.admissions[rest[0] % len(self.admissions)]
            if what in {"release", "refund"}:
                # A run released while it waits is dropped at its next attempt, which shared counters make earlier.
                if admission not in self.busy or self.busy[admission].done():
                    getattr(admission, what)()
                    self.admissions.remove(admission)
            elif what == "move_to_fallback":
                # A request that waits for the freed slot gets it before or after this one is queued again: that
                # differs between the counters, and is fair in both cases.
                if not admission._limiters.queue.waiting:
                    self.start_task(admission.move_to_fallback(*rest[1], deadline=now + rest[2]), admission)
            else:
                self.start_task(getattr(admission, what)(deadline=now + 1), admission)


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Return the URL of a server."""
    directory: Path = tmp_path_factory.mktemp("valkey")
    with running_server(directory, durable=False) as server:
        yield server.url


async def _run_on_redis(url: str, steps: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    harness = await RedisLimiterHarness(CLIENTS, WORKFLOWS, PROVIDERS, TEAMS, TEAM_OF).open(url)
    try:
        scenario = await RecordedScenario(harness).run(steps)
        assert [1] == harness.shared_changes
        return scenario
    finally:
        await harness.limiter.close()


def _is_close(one: tuple[Any, ...], other: tuple[Any, ...]) -> bool:
    numbers = [(a, b) for a, b in zip(one, other, strict=False) if isinstance(a, float)]
    rest = [[x for x in scenario if not isinstance(x, float)] for scenario in (one, other)]
    return rest[0] == rest[1] and all(math.isclose(a, b, abs_tol=2e-4) for a, b in numbers)


@settings(max_examples=examples(60), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(STEP, min_size=5, max_size=50))
def test_a_server_decides_as_memory_does(url: str, steps: list[tuple[Any, ...]]) -> None:
    """R85, R86, R89: equal times of admission, errors and header fields."""
    flush_server(url)
    expected = asyncio.run(RecordedScenario(LimiterHarness(CLIENTS, WORKFLOWS, PROVIDERS, TEAMS, TEAM_OF)).run(steps))
    actual = asyncio.run(_run_on_redis(url, steps))
    assert len(expected) == len(actual)
    different = [pair for pair in zip(expected, actual, strict=True) if not _is_close(*pair)]
    assert [] == different
