"""What a server counts and what memory counts is the same: one story, told to both, ends the same way in both."""

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

from gateway.access.hold import Hold
from gateway.access.limits import ClientLimits, Rate, SharedLimits
from gateway.problems import Problem
from tests.access.redis_worlds import SharedWorld, forget
from tests.access.worlds import World
from tests.valkey import running_server

CLIENTS = {"a": ClientLimits(Rate(20), 5, 3, daily=12), "b": ClientLimits(concurrency=2)}
WORKFLOWS = {"slow": SharedLimits(Rate(4), 2, concurrency=1, max_wait=0.4)}
PROVIDERS = {"p": SharedLimits(Rate(10), 3, concurrency=3, max_wait=0.6), "q": SharedLimits(concurrency=1)}

STEP = st.one_of(
    st.tuples(
        st.just("admit"),
        st.sampled_from("abc"),
        st.sampled_from([("w", "p"), ("w", "q"), ("slow", "p")]),
        st.floats(0.01, 1.5),
        st.sampled_from([None, 1.0, math.inf]),
    ),
    st.tuples(st.sampled_from(["release", "refund", "cancel", "start_again", "poll"]), st.integers(0, 9)),
    st.tuples(st.just("move"), st.integers(0, 9), st.sampled_from([("w", "p"), ("w", "q")]), st.floats(0.01, 1.5)),
    st.tuples(st.just("pass"), st.floats(0.0, 0.5)),
)


@dataclass
class Story:
    """What came of each step of one world."""

    world: World
    held: list[Hold] = field(default_factory=list)
    busy: dict[Hold, asyncio.Task[None]] = field(default_factory=dict)
    work: list[asyncio.Task[None]] = field(default_factory=list)
    told: dict[int, tuple[Any, ...]] = field(default_factory=dict)

    def begin(self, work: Coroutine[object, object, Hold | None], hold: Hold | None = None) -> None:
        """Do it on the side, and write down what comes of it; a run does one thing at a time."""
        if hold is not None and hold in self.busy and not self.busy[hold].done():
            work.close()
            return
        number = len(self.work)

        async def tell() -> None:
            try:
                result = await work
            except Problem as problem:
                what: tuple[Any, ...] = (problem.code, problem.retry_after or 0.0, problem.headers, problem.extra)
            except asyncio.CancelledError:
                what = ("cancelled",)
            else:
                what = ("done", result.headers if result else ())
                if result is not None:
                    self.held.append(result)
            self.told[number] = (round(self.world.now, 4), *what)

        self.work.append(self.world.begin(tell()))
        if hold is not None:
            self.busy[hold] = self.work[-1]

    async def play(self, steps: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
        """Tell it; what came of each step, in the order of the steps."""
        for step in steps:
            await self._take(*step)
            if step[0] != "cancel":
                await self.world.clock.settle()
        await self.world.clock.run_for(30)
        await asyncio.gather(*self.work)
        for hold in self.held:
            hold.release()
        await self.world.clock.settle()
        assert (0, 0) == (self.world.limits.waiting("p"), self.world.limits.waiting("q"))
        return [self.told[number] for number in range(len(self.work))]

    async def _take(self, what: str, *rest: Any) -> None:
        world, now = self.world, self.world.now
        if what == "admit":
            client, names, within, patience = rest
            self.begin(world.limits.admit(client, *names, deadline=now + within, patience=patience))
        elif what == "pass":
            await world.clock.run_for(rest[0])
        elif what == "cancel" and self.work:
            self.work[rest[0] % len(self.work)].cancel()
        elif what != "cancel" and self.held:
            hold = self.held[rest[0] % len(self.held)]
            if what in {"release", "refund"}:
                # One that leaves while it waits hears so when it would be asked for: a server is asked more often.
                if hold not in self.busy or self.busy[hold].done():
                    getattr(hold, what)()
                    self.held.remove(hold)
            elif what == "move":
                # Whoever waits for the slot that it leaves has it before or after this one stands in its next line:
                # here so, there so, and fair both times.
                if not hold._lane.waiting:
                    self.begin(hold.move(*rest[1], deadline=now + rest[2]), hold)
            else:
                self.begin(getattr(hold, what)(deadline=now + 1), hold)


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server."""
    directory: Path = tmp_path_factory.mktemp("valkey")
    with running_server(directory, durable=False) as server:
        yield server.url


async def _shared(url: str, steps: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    world = await SharedWorld(CLIENTS, WORKFLOWS, PROVIDERS).open(url)
    try:
        story = await Story(world).play(steps)
        assert [1] == world.told
        return story
    finally:
        await world.limits.close()


def _same(one: tuple[Any, ...], other: tuple[Any, ...]) -> bool:
    numbers = [(a, b) for a, b in zip(one, other, strict=False) if isinstance(a, float)]
    rest = [[x for x in story if not isinstance(x, float)] for story in (one, other)]
    return rest[0] == rest[1] and all(math.isclose(a, b, abs_tol=2e-4) for a, b in numbers)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(STEP, min_size=5, max_size=50))
def test_a_server_decides_as_memory_does(url: str, steps: list[tuple[Any, ...]]) -> None:
    """R85, R86, R89: who is let in and when, who is refused, why, and with which header fields."""
    forget(url)
    expected = asyncio.run(Story(World(CLIENTS, WORKFLOWS, PROVIDERS)).play(steps))
    actual = asyncio.run(_shared(url, steps))
    assert len(expected) == len(actual)
    different = [pair for pair in zip(expected, actual, strict=True) if not _same(*pair)]
    assert [] == different
