"""End-of-run notifications of a provider that reach another replica than that of the run."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from tests.durable_runs.test_poll_hints import HINT_TIMEOUT, RARE_POLLING, FakePromptLayer
from tests.support.client import PROMPTLAYER_BODY
from tests.support.process import metric_sum

if TYPE_CHECKING:
    import aiohttp

    from tests.replicas.replica_pair import ReplicaPair
    from tests.support.fake_upstream.upstream import FakeUpstream


@pytest.fixture
def provider(upstream: FakeUpstream, session: aiohttp.ClientSession) -> FakePromptLayer:
    return FakePromptLayer(upstream, session)


async def test_a_hint_at_one_wakes_the_run_of_the_other(replicas: ReplicaPair, provider: FakePromptLayer) -> None:
    """R21, R45: one poll, long before its schedule; waiting requests at both replicas get the result."""
    await replicas.start(**RARE_POLLING)
    run_id = await replicas.one.submit_async(PROMPTLAYER_BODY)
    path = await provider.callback_path()
    async with asyncio.timeout(HINT_TIMEOUT):
        while (await replicas.two.get_run(run_id))["provider_run_id"] is None:
            await asyncio.sleep(0.02)
    provider.finish_run()
    assert 204 == (await provider.send_hint(replicas.two.current, path))[0]
    ends = await asyncio.wait_for(asyncio.gather(*(each.wait_for_end(run_id) for each in replicas.both)), HINT_TIMEOUT)
    assert (["succeeded"] * 2, 1) == ([end["status"] for end in ends], provider.poll_count)
    assert [1, 0] == [metric_sum(await each.current.metrics(), "runward_hints_used_total") for each in replicas.both]
    assert [0, 1] == [
        metric_sum(await e.current.metrics(), "runward_hints_total", result="genuine") for e in replicas.both
    ]


async def test_forged_and_repeated_hints_do_nothing_at_either_replica(
    replicas: ReplicaPair, provider: FakePromptLayer
) -> None:
    """R45: no poll for a forged notification; one poll for all repetitions, at any replica."""
    await replicas.start(**RARE_POLLING)
    run_id = await replicas.one.submit_async(PROMPTLAYER_BODY)
    path = await provider.callback_path()
    for each in replicas.both:
        for forged in (path[:-1] + ("A" if path[-1] != "A" else "B"), f"/hints/{run_id}", f"/hints/{run_id}.x"):
            assert 204 == (await provider.send_hint(each.current, forged))[0]
    await asyncio.sleep(0.3)
    assert 0 == provider.poll_count
    assert [3, 3] == [
        metric_sum(await e.current.metrics(), "runward_hints_total", result="forged") for e in replicas.both
    ]
    for _ in range(10):
        for each in replicas.both:
            assert 204 == (await provider.send_hint(each.current, path))[0]
        await asyncio.sleep(0.02)
    await asyncio.sleep(0.3)
    assert 1 == provider.poll_count
    assert "running" == (await replicas.two.get_run(run_id))["status"]
