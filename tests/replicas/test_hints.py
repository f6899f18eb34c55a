"""A provider's word that a run has ended, said to a replica that knows nothing of the run."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from tests.client import LAYER
from tests.durable.test_hints import SLOW, SOON, Provider
from tests.process import total

if TYPE_CHECKING:
    import aiohttp

    from tests.faults.upstream import Upstream
    from tests.replicas.fleet import Fleet


@pytest.fixture
def provider(upstream: Upstream, session: aiohttp.ClientSession) -> Provider:
    return Provider(upstream, session)


async def test_a_hint_at_one_wakes_the_run_of_the_other(fleet: Fleet, provider: Provider) -> None:
    """R21, R45: one question, long before it would have been asked; whoever waits at either is told."""
    await fleet.begin(**SLOW)
    run_id = await fleet.one.accepted(LAYER)
    path = await provider.callback_path()
    async with asyncio.timeout(SOON):
        while (await fleet.two.shown(run_id))["provider_run_id"] is None:
            await asyncio.sleep(0.02)
    provider.end()
    assert 204 == (await provider.call(fleet.two.now, path))[0]
    ends = await asyncio.wait_for(asyncio.gather(*(each.ended(run_id) for each in fleet.both)), SOON)
    assert (["succeeded"] * 2, 1) == ([end["status"] for end in ends], provider.polls)
    assert [1, 0] == [total(await each.now.metrics(), "runward_hints_used_total") for each in fleet.both]
    assert [0, 1] == [total(await e.now.metrics(), "runward_hints_total", result="genuine") for e in fleet.both]


async def test_what_is_forged_or_repeated_does_nothing_at_either(fleet: Fleet, provider: Provider) -> None:
    """R45: no question for a forged one; one for all repetitions, wherever they come."""
    await fleet.begin(**SLOW)
    run_id = await fleet.one.accepted(LAYER)
    path = await provider.callback_path()
    for each in fleet.both:
        for forged in (path[:-1] + ("A" if path[-1] != "A" else "B"), f"/hints/{run_id}", f"/hints/{run_id}.x"):
            assert 204 == (await provider.call(each.now, forged))[0]
    await asyncio.sleep(0.3)
    assert 0 == provider.polls
    assert [3, 3] == [total(await e.now.metrics(), "runward_hints_total", result="forged") for e in fleet.both]
    for _ in range(10):
        for each in fleet.both:
            assert 204 == (await provider.call(each.now, path))[0]
        await asyncio.sleep(0.02)
    await asyncio.sleep(0.3)
    assert 1 == provider.polls
    assert "running" == (await fleet.two.shown(run_id))["status"]
