"""StartGate: a response is held until its start is acknowledged or refused, the end of the run until it was sent."""

from __future__ import annotations

import asyncio

from gateway.clock import SystemClock
from gateway.errors import CircuitOpen, RunError
from gateway.runs.durable.start_response_gate import StartGate
from tests.runs.durable.durable_harness import FrozenClock, yield_to_loop, yield_until
from tests.support.clock import ManualClock


async def test_an_accepted_start_ends_the_wait() -> None:
    gate = StartGate(FrozenClock())
    waiting = asyncio.create_task(gate.wait_for_decision(4))
    await yield_to_loop()
    assert not waiting.done()
    gate.accept()
    assert None is await waiting
    assert not gate.claim()


async def test_the_time_to_wait_accepts() -> None:
    """The end of the run is then its result, no refusal."""
    clock = ManualClock()
    gate = StartGate(clock)
    assert None is await gate.wait_for_decision(4)
    assert ([4], False) == (clock.slept, gate.claim())


async def test_a_decision_in_progress_is_waited_for() -> None:
    """A claimed gate is not accepted: the run is about to be deleted."""
    gate, refusal = StartGate(ManualClock()), CircuitOpen()
    assert gate.claim()
    waiting = asyncio.create_task(gate.wait_for_decision(4))
    await yield_to_loop()
    gate.accept()
    assert not waiting.done()
    gate.decide(refusal)
    found: RunError | None = await waiting
    assert refusal is found
    await gate.wait_until_sent()  # no response names the run


async def test_the_end_waits_until_the_response_was_sent() -> None:
    gate = StartGate(FrozenClock())
    ending = asyncio.create_task(gate.wait_until_sent())
    await yield_to_loop()
    assert not ending.done()
    gate.mark_sent()
    await ending


async def test_the_end_waits_a_second_when_the_client_disconnected() -> None:
    clock = ManualClock()
    await StartGate(clock).wait_until_sent()
    assert [1.0] == clock.slept


async def test_cancellation_leaves_no_task() -> None:
    before = len(asyncio.all_tasks())
    task = asyncio.create_task(StartGate(SystemClock()).wait_for_decision(4))
    await yield_to_loop()
    task.cancel()
    await yield_until(lambda: len(asyncio.all_tasks()) == before)
    assert task.cancelled()
