"""Runs in the background keep their place in line: none starves, and none holds a client up that waits."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from gateway.access.limits import ClientLimits, Rate, SharedLimits
from gateway.runs.catalog import Provider, Workflow
from gateway.runs.record import Order, RunRecord
from providers.contract import Call, Reply
from providers.prompt_studio import PromptStudio
from tests.access.virtual_clock import VirtualClock, settle
from tests.runs.scripted import DONE, Door, World, ending


@dataclass
class Slow(Door):
    """An upstream that takes its time."""

    seconds: float = 0.2

    async def send(self, call: Call, deadline: float, traceparent: str = "") -> Reply:
        """See `Upstream.send`."""
        reply = await super().send(call, deadline, traceparent)
        await self.clock.sleep(self.seconds)
        return reply


class Crowd:
    """Clients that ask again and again, and runs in the background, before one provider."""

    def __init__(self, limits: SharedLimits, *, client: ClientLimits | None = None) -> None:
        self.clock = VirtualClock()
        self.world = World(providers={"studio": limits}, clock=self.clock, client=client or ClientLimits())
        self.slow = Slow(self.clock, [DONE])
        self.workflow = Workflow(alias="studio", name="n", provider=Provider("studio", PromptStudio(), self.slow))
        self.tasks: list[asyncio.Task[object]] = []

    def begin(self, client: str, *, timeout: float, waits: bool) -> asyncio.Task[tuple[str | None, str, int]]:
        """One run, on the side; its ending."""
        order = Order(client=client, workflow="studio", timeout=timeout, waits=waits)
        record = RunRecord.open(order, "studio", self.clock)

        async def run() -> tuple[str | None, str, int]:
            return ending(await self.world.run(self.workflow, record))

        return asyncio.get_running_loop().create_task(run())

    def loop(self, client: str, endings: list[str | None]) -> None:
        """A client that asks, waits for the answer, and asks again at once, or as it is told to."""

        async def ask() -> None:
            while True:
                code, _, _ = await self.begin(client, timeout=30, waits=True)
                endings.append(code)
                if code is not None:
                    await self.clock.sleep(1.0)

        self.tasks.append(asyncio.get_running_loop().create_task(ask()))

    async def leave(self) -> None:
        """Everybody goes."""
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)


async def test_runs_in_the_background_do_not_starve_beside_clients_that_wait() -> None:
    """Four of them, twelve clients that ask without end, one slot: each of the four has its turn in a few rounds."""
    for name in ("one", "other"):  # the clients' own name, or another
        crowd, answers = Crowd(SharedLimits(concurrency=1)), list[str | None]()
        for _ in range(12):
            crowd.loop("one", answers)
        await crowd.clock.run_for(3)
        runs = [crowd.begin(name, timeout=10, waits=False) for _ in range(4)]
        await crowd.clock.run_for(3)
        assert [True] * 4 == [run.done() for run in runs]
        assert [(None, "succeeded", 1)] * 4 == [run.result() for run in runs]
        await crowd.leave()


async def test_a_client_that_waits_is_not_stuck_behind_its_own_background() -> None:
    """Its patience is a second; hundreds of its runs came before, at five a second."""
    crowd = Crowd(SharedLimits(concurrency=1))
    runs = [crowd.begin("one", timeout=600, waits=False) for _ in range(300)]
    await crowd.clock.run_for(1)
    answer = crowd.begin("one", timeout=30, waits=True)
    await crowd.clock.run_for(1)
    assert (None, "succeeded", 1) == answer.result()
    await crowd.clock.run_for(60)
    assert {(None, "succeeded", 1)} == {run.result() for run in runs}
    assert 301 == crowd.slow.starts


async def test_who_finds_the_line_full_comes_back() -> None:
    """More than the line has places for: all of them run, one after the other, none is sent twice."""
    crowd = Crowd(SharedLimits(concurrency=20))
    runs = [crowd.begin("one", timeout=60, waits=False) for _ in range(700)]
    await settle()
    assert 500 == crowd.world.limits.waiting("studio")
    await crowd.clock.run_for(30)
    assert {(None, "succeeded", 1)} == {run.result() for run in runs}
    assert 700 == crowd.slow.starts


async def test_a_run_that_no_rate_lets_through_before_its_deadline_was_not_run() -> None:
    """R31: it ends at its deadline, and not before: others might have left the line."""
    crowd = Crowd(SharedLimits(rate=Rate(1, 60), burst=1))
    runs = [crowd.begin("one", timeout=20, waits=False) for _ in range(2)]
    await crowd.clock.run_for(19.9)
    assert [True, False] == [run.done() for run in runs]
    await crowd.clock.run_for(0.2)
    assert ("deadline_exceeded", "not_run", 0) == runs[1].result()
    assert 1 == crowd.slow.starts


async def test_the_clients_own_limits_make_a_run_come_back() -> None:
    crowd = Crowd(SharedLimits(concurrency=9), client=ClientLimits(Rate(1), 1))
    runs = [crowd.begin("one", timeout=20, waits=False) for _ in range(5)]
    await crowd.clock.run_for(10)
    assert {(None, "succeeded", 1)} == {run.result() for run in runs}
    times = [at for _, at, _ in crowd.slow.sent]
    assert [0, 1, 2, 3, 4] == [round(at - times[0], 3) for at in times]
