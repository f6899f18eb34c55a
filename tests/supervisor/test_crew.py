"""A crew of programs that do little: who is started again, who is given up, and how it ends."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import pytest
import structlog
from structlog.testing import capture_logs

from gateway.clock import SystemClock
from gateway.metrics import Metrics
from gateway.supervisor.crew import Crew, GaveUp
from gateway.supervisor.worker import Launcher
from tests.supervisor.programs import BABBLING, CRASHING, FIRST_ONLY, OBEDIENT, REFUSING, STUBBORN

PATIENCE = 30.0


class HastyClock(SystemClock):
    """Pauses are a hundred times shorter, and no life counts as long."""

    def __init__(self) -> None:
        self.slept: list[float] = []

    @staticmethod
    def monotonic() -> float:
        return 0.0

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        await asyncio.sleep(seconds / 100)


def crew_of(command: Sequence[str], count: int = 2) -> Crew:
    """A crew that is not serving yet."""
    launcher = Launcher(command, (), ("127.0.0.1", 1), "memory://")
    return Crew(count, launcher.launch, Metrics(), HastyClock(), structlog.get_logger())


@asynccontextmanager
async def serving(crew: Crew) -> AsyncIterator[asyncio.Task[None]]:
    """Let it serve; it is ended at the end."""
    task = asyncio.create_task(crew.serve())
    try:
        async with asyncio.timeout(PATIENCE):
            yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(true: Callable[[], object]) -> None:
    """Wait for what other processes do."""
    async with asyncio.timeout(PATIENCE):
        while not true():
            await asyncio.sleep(0.005)


def pids(crew: Crew) -> dict[int, int]:
    """The process in each place."""
    return {place: worker.process.pid for place, worker in crew.workers.items()}


def requests(families: object) -> float:
    """What the programs say they counted."""
    assert isinstance(families, dict)
    return float(families["runward_requests"]["run", "200"][0])


async def test_all_places_are_filled_and_all_end_when_told() -> None:
    crew = crew_of(OBEDIENT, 3)
    async with serving(crew) as task:
        await crew.complete.wait()
        assert (3, 3) == (crew.ready, crew.answering)
        crew.drain()
        await task
    assert (True, {}) == (crew.clean, crew.workers)


async def test_a_worker_that_is_killed_is_replaced_and_its_counts_stay() -> None:
    """Another process takes the place; what was known of the dead one stays in the sums."""
    crew = crew_of(OBEDIENT)
    with capture_logs() as lines:
        async with serving(crew):
            await crew.complete.wait()
            before, first = requests(await crew.ask()), pids(crew)
            assert before >= 2
            os.kill(first[1], signal.SIGKILL)
            await until(lambda: crew.ready == 2 and pids(crew)[1] != first[1])
            assert pids(crew)[0] == first[0]
            assert requests(await crew.ask()) >= before + 2
            assert 1 == crew.metrics.numbers()["runward_workers_lost"][()][0]
    [line] = [line for line in lines if line["event"] == "worker_ended"]
    assert (1, -9) == (line["worker"], line["exit_code"])


async def test_a_configuration_that_is_refused_is_refused_once() -> None:
    """One worker says what is wrong, no other is started, and the exit code is the same."""
    crew = crew_of(REFUSING, 5)
    with capture_logs() as lines, pytest.raises(GaveUp) as gave_up:
        await crew.serve()
    assert (2, 1) == (gave_up.value.exit_code, len(lines))


async def test_workers_that_only_die_are_given_up() -> None:
    """After five deaths in a row, with pauses that double."""
    crew = crew_of(CRASHING, 2)
    with pytest.raises(GaveUp, match=r"worker 0 ended 5 times in a row \(exit code -6\)") as gave_up:
        await crew.serve()
    assert 1 == gave_up.value.exit_code
    assert isinstance(crew.clock, HastyClock)
    assert [0.1, 0.2, 0.4, 0.8] == [seconds for seconds in crew.clock.slept if seconds != 1.0]


async def test_nobody_gives_up_while_others_serve() -> None:
    """Else one bad place would cut off the clients of all others."""
    crew = crew_of(FIRST_ONLY)
    async with serving(crew) as task:
        await until(lambda: crew.metrics.numbers()["runward_workers_lost"].get((), (0,))[0] > 7)
        assert (False, 1) == (task.done(), crew.ready)
        crew.drain()
        await task
    assert crew.clean


async def test_who_does_not_answer_is_not_waited_for() -> None:
    """Its last numbers are used; it is neither ready nor alive for those who ask, and back once it answers."""
    crew = crew_of(OBEDIENT)
    async with serving(crew):
        await crew.complete.wait()
        before, held = requests(await crew.ask()), pids(crew)[0]
        os.kill(held, signal.SIGSTOP)
        await until(lambda: crew.answering == 1)
        assert requests(await crew.ask()) >= before
        assert (1, 2) == (crew.ready, len(crew.workers))
        os.kill(held, signal.SIGCONT)
        await until(lambda: crew.ready == 2)


async def test_many_who_ask_at_once_all_get_an_answer() -> None:
    """One question at a time goes to each worker, whoever asks."""
    crew = crew_of(OBEDIENT)
    async with serving(crew):
        await crew.complete.wait()
        sums = [requests(families) for families in await asyncio.gather(*(crew.ask() for _ in range(20)))]
        assert (2, sorted(sums)) == (crew.answering, sums)


async def test_all_are_told_to_reload() -> None:
    """Over the channel: a signal would kill one that is not ready for it."""
    crew = crew_of(OBEDIENT)
    async with serving(crew):
        await crew.complete.wait()
        crew.reload()
        assert 2000 <= requests(await crew.ask()) < 3000


async def test_a_hurry_ends_those_who_do_not_listen() -> None:
    """They are killed after a grace, and that was not clean."""
    crew = crew_of(STUBBORN)
    async with serving(crew) as task:
        await crew.complete.wait()
        crew.drain()
        await asyncio.sleep(0.05)
        assert not task.done()
        await crew.hurry()
        await task
    assert not crew.clean


async def test_what_makes_no_sense_is_no_readiness() -> None:
    """And the supervisor goes on."""
    crew = crew_of(BABBLING, 1)
    async with serving(crew) as task:
        await until(lambda: crew.workers)
        await asyncio.sleep(0.2)
        assert (0, 0, False) == (crew.ready, crew.answering, task.done())


async def test_no_process_is_left_when_the_crew_is_dropped() -> None:
    """However `serve` ends."""
    crew = crew_of(STUBBORN)
    async with serving(crew):
        await crew.complete.wait()
        left = list(crew.workers.values())
    assert [-9, -9] == [worker.process.returncode for worker in left]


async def test_told_to_drain_before_it_is_ready() -> None:
    """Those who wait for the first need not be started."""
    crew = crew_of(OBEDIENT, 3)
    async with serving(crew) as task:
        await until(lambda: crew.workers)
        crew.drain()
        await task
    assert (True, {}) == (crew.clean, crew.workers)
