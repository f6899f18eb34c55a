"""ResponseSent: a run starts after the response that names it, and at most one second later."""

from __future__ import annotations

import asyncio

from gateway.api.promptlayer.runs import ResponseSent
from gateway.clock import SystemClock
from tests.runs.durable.durable_harness import yield_to_loop, yield_until
from tests.support.clock import ManualClock


class FrozenClock(ManualClock):
    """A clock whose sleep never ends."""

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        await asyncio.Event().wait()


async def start_after_response(response_sent: ResponseSent) -> tuple[list[str], asyncio.Task[None]]:
    happened: list[str] = []

    async def start() -> None:
        await response_sent.wait()
        happened.append("begun")

    task = asyncio.create_task(start())
    await yield_to_loop()
    return happened, task


async def test_the_run_starts_when_the_response_was_sent() -> None:
    response_sent = ResponseSent(FrozenClock())
    happened, task = await start_after_response(response_sent)
    assert [] == happened
    response_sent.mark_sent()
    await task
    assert ["begun"] == happened


async def test_the_run_starts_after_a_second_when_the_client_disconnected() -> None:
    clock = ManualClock()
    happened, task = await start_after_response(ResponseSent(clock))
    await task
    assert (["begun"], [1.0]) == (happened, clock.slept)


async def test_a_response_sent_before_is_not_waited_for() -> None:
    response_sent = ResponseSent(FrozenClock())
    response_sent.mark_sent()
    happened, task = await start_after_response(response_sent)
    await task
    assert ["begun"] == happened


async def test_cancellation_leaves_no_task() -> None:
    """At shutdown the run stays in the store."""
    before = len(asyncio.all_tasks())
    happened, task = await start_after_response(ResponseSent(SystemClock()))
    task.cancel()
    await yield_until(lambda: len(asyncio.all_tasks()) == before)
    assert (True, []) == (task.cancelled(), happened)
