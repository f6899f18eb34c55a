"""Fairness of background runs: no starvation, and no blocking of synchronous runs."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from gateway.limits.config import ClientLimitsConfig, RateLimit, ResourceLimitsConfig
from gateway.runs.catalog import Provider, Workflow
from gateway.runs.model import RunRecord, RunSpec
from providers.contract import Call, Reply
from providers.prompt_studio import PromptStudio
from tests.runs.executor_harness import DONE, ExecutorHarness, ScriptedUpstream, ending_of_run
from tests.support.virtual_clock import VirtualClock, run_ready_tasks


@dataclass
class SlowUpstream(ScriptedUpstream):
    """Upstream with slow responses."""

    seconds: float = 0.2

    async def send(self, call: Call, deadline: float, traceparent: str = "") -> Reply:
        """See `Upstream.send`."""
        reply = await super().send(call, deadline, traceparent)
        await self.clock.sleep(self.seconds)
        return reply


class ClientLoad:
    """Clients in a closed loop, and background runs, at one provider."""

    def __init__(self, limits: ResourceLimitsConfig, *, client: ClientLimitsConfig | None = None) -> None:
        self.clock = VirtualClock()
        self.world = ExecutorHarness(
            providers={"studio": limits}, clock=self.clock, client=client or ClientLimitsConfig()
        )
        self.upstream = SlowUpstream(self.clock, [DONE])
        self.workflow = Workflow(alias="studio", name="n", provider=Provider("studio", PromptStudio(), self.upstream))
        self.tasks: list[asyncio.Task[object]] = []

    def start_run(self, client: str, *, timeout: float, synchronous: bool) -> asyncio.Task[tuple[str | None, str, int]]:
        """Start a run in a task; returns its ending."""
        spec = RunSpec(client=client, workflow="studio", timeout=timeout, synchronous=synchronous)
        record = RunRecord.create(spec, "studio", self.clock)

        async def run() -> tuple[str | None, str, int]:
            return ending_of_run(await self.world.run(self.workflow, record))

        return asyncio.get_running_loop().create_task(run())

    def start_client_loop(self, client: str, endings: list[str | None]) -> None:
        """Start a client that repeats synchronous runs, with an optional pause."""

        async def ask() -> None:
            while True:
                code, _, _ = await self.start_run(client, timeout=30, synchronous=True)
                endings.append(code)
                if code is not None:
                    await self.clock.sleep(1.0)

        self.tasks.append(asyncio.get_running_loop().create_task(ask()))

    async def cancel_all(self) -> None:
        """Unblock every start."""
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)


async def test_background_runs_do_not_starve_beside_synchronous_clients() -> None:
    """Four background runs, twelve clients in a loop, one slot: each of the four starts within a few rounds."""
    for name in ("one", "other"):  # the clients' own name, or another
        load, answers = ClientLoad(ResourceLimitsConfig(concurrency=1)), list[str | None]()
        for _ in range(12):
            load.start_client_loop("one", answers)
        await load.clock.run_for(3)
        runs = [load.start_run(name, timeout=10, synchronous=False) for _ in range(4)]
        await load.clock.run_for(3)
        assert [True] * 4 == [run.done() for run in runs]
        assert [(None, "succeeded", 1)] * 4 == [run.result() for run in runs]
        await load.cancel_all()


async def test_a_synchronous_run_is_not_blocked_by_background_runs_of_its_client() -> None:
    """`max_wait` of one second, with hundreds of earlier background runs at five per second."""
    load = ClientLoad(ResourceLimitsConfig(concurrency=1))
    runs = [load.start_run("one", timeout=600, synchronous=False) for _ in range(300)]
    await load.clock.run_for(1)
    answer = load.start_run("one", timeout=30, synchronous=True)
    await load.clock.run_for(1)
    assert (None, "succeeded", 1) == answer.result()
    await load.clock.run_for(60)
    assert {(None, "succeeded", 1)} == {run.result() for run in runs}
    assert 301 == load.upstream.starts


async def test_a_run_that_finds_the_queue_full_tries_again() -> None:
    """More runs than places: all of them are executed, none is sent twice."""
    load = ClientLoad(ResourceLimitsConfig(concurrency=20))
    runs = [load.start_run("one", timeout=60, synchronous=False) for _ in range(700)]
    await run_ready_tasks()
    assert 500 == load.world.limiter.waiting("studio")
    await load.clock.run_for(30)
    assert {(None, "succeeded", 1)} == {run.result() for run in runs}
    assert 700 == load.upstream.starts


async def test_a_run_that_no_rate_lets_through_before_its_deadline_was_not_run() -> None:
    """R31: it ends at its deadline, not before, as queued requests may be cancelled."""
    load = ClientLoad(ResourceLimitsConfig(rate=RateLimit(1, 60), burst=1))
    runs = [load.start_run("one", timeout=20, synchronous=False) for _ in range(2)]
    await load.clock.run_for(19.9)
    assert [True, False] == [run.done() for run in runs]
    await load.clock.run_for(0.2)
    assert ("deadline_exceeded", "not_run", 0) == runs[1].result()
    assert 1 == load.upstream.starts


async def test_a_run_over_the_limits_of_its_client_tries_again() -> None:
    load = ClientLoad(ResourceLimitsConfig(concurrency=9), client=ClientLimitsConfig(RateLimit(1), 1))
    runs = [load.start_run("one", timeout=20, synchronous=False) for _ in range(5)]
    await load.clock.run_for(10)
    assert {(None, "succeeded", 1)} == {run.result() for run in runs}
    times = [at for _, at, _ in load.upstream.sent]
    assert [0, 1, 2, 3, 4] == [round(at - times[0], 3) for at in times]
