"""Failover: a replica crashes, stops or freezes, and the other one continues its runs."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING

from tests.replicas.replica_pair import TAKEOVER_TIMEOUT, ReplicaPair, post_until_answered, suspended
from tests.support.callback_receiver import CALLBACK_PATH, delivered_run, deliveries, message_ids
from tests.support.client import PROMPT_STUDIO_BODY, PROMPTLAYER_BODY
from tests.support.fake_upstream import faults
from tests.support.fake_upstream.provider_responses import (
    LAYER_RESULTS,
    LAYER_RUN,
    STUDIO_RUN,
    node,
    prompt_studio_reply,
    promptlayer_done,
    promptlayer_running,
    promptlayer_started,
)
from tests.support.fake_upstream.responses import reply
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from providers.contract import JsonValue
    from tests.support.fake_upstream.connection import UpstreamConnection
    from tests.support.fake_upstream.upstream import FakeUpstream
    from tests.support.gateway_restarts import RestartableGateway

DONE = promptlayer_done({"Answer": node("because")})
ONE_AT_A_TIME: Mapping[str, JsonValue] = {"limits": {"concurrency": 1, "max_wait": "20s"}}


def keep_running(upstream: FakeUpstream) -> None:
    """Script runs at PromptLayer that do not end."""
    upstream.always("POST", LAYER_RUN, promptlayer_started(77))
    upstream.always("GET", LAYER_RESULTS, promptlayer_running())


async def wait_until_all_polled(replica: RestartableGateway, runs: list[str]) -> None:
    """Wait until the store has the provider's id of every run."""
    async with asyncio.timeout(TAKEOVER_TIMEOUT):
        for run_id in runs:
            while (await replica.get_run(run_id))["provider_run_id"] is None:
                await asyncio.sleep(0.02)


async def test_the_runs_of_a_killed_replica_are_adopted_after_the_lease(
    replicas: ReplicaPair, upstream: FakeUpstream, receiver: FakeUpstream
) -> None:
    """R48, R55: the survivor polls every run, starts none again, and delivers one callback each."""
    keep_running(upstream)
    await replicas.start_with_short_lease()
    runs = [
        await replicas.one.submit_async({**PROMPTLAYER_BODY, "callback_url": receiver.url + CALLBACK_PATH})
        for _ in range(10)
    ]
    await wait_until_all_polled(replicas.two, runs)
    assert -9 == await replicas.one.current.kill()
    upstream.always("GET", LAYER_RESULTS, DONE)
    ends = await asyncio.wait_for(
        asyncio.gather(*(replicas.two.wait_for_end(run_id) for run_id in runs)), TAKEOVER_TIMEOUT
    )
    assert [("succeeded", "because")] * 10 == [(end["status"], end["output"]) for end in ends]
    assert [{"state": "delivered"}] * 10 == [await replicas.two.wait_for_callback(run_id) for run_id in runs]
    assert {f"msg_{run_id}" for run_id in runs} == message_ids(receiver)
    assert (10, 10) == (len(deliveries(receiver)), len(upstream.requests("POST", LAYER_RUN)))


async def test_each_phase_has_its_end_when_a_replica_dies(replicas: ReplicaPair, upstream: FakeUpstream) -> None:
    """R44, R49: a start in flight is unknown and never sent again; a queued run is started once."""
    upstream.always("POST", STUDIO_RUN, faults.hang)
    keep_running(upstream)
    await replicas.start_with_short_lease(providers={"promptlayer": dict(ONE_AT_A_TIME)})
    followed = await replicas.one.submit_async(PROMPTLAYER_BODY)
    await wait_until_all_polled(replicas.two, [followed])
    queued, sending = (
        await replicas.one.submit_async(PROMPTLAYER_BODY),
        await replicas.one.submit_async(PROMPT_STUDIO_BODY),
    )
    keyed = asyncio.create_task(replicas.one.post(PROMPT_STUDIO_BODY, Idempotency_Key="one"))
    await wait_until(lambda: len(upstream.requests("POST", STUDIO_RUN)) == 2)
    assert -9 == await replicas.one.current.kill()
    await asyncio.wait([keyed])
    assert keyed.exception() is not None
    upstream.always("POST", STUDIO_RUN, prompt_studio_reply("twice"))
    upstream.always("GET", LAYER_RESULTS, DONE)
    runs = (followed, queued, sending)
    ends = await asyncio.wait_for(
        asyncio.gather(*(replicas.two.wait_for_end(run_id) for run_id in runs)), TAKEOVER_TIMEOUT
    )
    assert ["succeeded", "succeeded", "unknown"] == [end["status"] for end in ends]
    answered = await asyncio.wait_for(post_until_answered((replicas.two,), PROMPT_STUDIO_BODY, "one"), TAKEOVER_TIMEOUT)
    assert (502, "upstream_disconnected", "unknown") == answered.summary
    assert (2, 2) == tuple(len(upstream.requests("POST", path)) for path in (LAYER_RUN, STUDIO_RUN))


async def test_the_slots_of_a_dead_replica_are_free_after_the_lease(
    replicas: ReplicaPair, upstream: FakeUpstream
) -> None:
    """R89, R90: slots of shared limits are held for the duration of a run, also without a store."""
    upstream.script("POST", STUDIO_RUN, [faults.hang])
    upstream.always("POST", STUDIO_RUN, prompt_studio_reply("because"))
    await replicas.start_with_short_lease(providers={"prompt_studio": dict(ONE_AT_A_TIME)})
    lost = asyncio.create_task(replicas.one.post(PROMPT_STUDIO_BODY))
    await wait_until(lambda: upstream.requests("POST"))
    assert -9 == await replicas.one.current.kill()
    await asyncio.wait([lost])
    assert lost.exception() is not None
    answered = await asyncio.wait_for(replicas.two.post(PROMPT_STUDIO_BODY), TAKEOVER_TIMEOUT)
    assert (200, 2) == (answered.status, len(upstream.requests("POST")))


async def test_a_stopping_replica_hands_over_at_once(replicas: ReplicaPair, upstream: FakeUpstream) -> None:
    """R98: to a running replica, whose next scan is in 20 minutes."""
    keep_running(upstream)
    await replicas.start(store={"lease": "1h"}, server={"grace": "1s"})
    runs = [await replicas.one.submit_async(PROMPTLAYER_BODY) for _ in range(5)]
    await wait_until_all_polled(replicas.two, runs)
    assert 0 == await replicas.one.current.stop()
    upstream.always("GET", LAYER_RESULTS, DONE)
    ends = await asyncio.wait_for(
        asyncio.gather(*(replicas.two.wait_for_end(run_id) for run_id in runs)), TAKEOVER_TIMEOUT
    )
    assert (["succeeded"] * 5, 5) == ([end["status"] for end in ends], len(upstream.requests("POST")))


async def test_the_result_of_a_frozen_replica_replaces_unknown(
    replicas: ReplicaPair, upstream: FakeUpstream, receiver: FakeUpstream
) -> None:
    """R44, R49, R55: it resumes with results of runs that the other one has ended as unknown meanwhile.

    Its own client gets the true result, and so do the store, the key and a second callback.
    """
    upstream.always("POST", STUDIO_RUN, faults.delayed(1.0, prompt_studio_reply("because")))
    await replicas.start_with_short_lease()
    left = await replicas.one.submit_async({**PROMPT_STUDIO_BODY, "callback_url": receiver.url + CALLBACK_PATH})
    waiting = asyncio.create_task(replicas.one.post(PROMPT_STUDIO_BODY, Idempotency_Key="one"))
    await wait_until(lambda: len(upstream.requests("POST")) == 2)
    with suspended(replicas.one.current.pid):
        assert "unknown" == (await asyncio.wait_for(replicas.two.wait_for_end(left), TAKEOVER_TIMEOUT))["status"]
        there = await asyncio.wait_for(
            post_until_answered((replicas.two,), PROMPT_STUDIO_BODY, "one"), TAKEOVER_TIMEOUT
        )
        assert (502, "upstream_disconnected", "unknown") == there.summary
        assert {"state": "delivered"} == await replicas.two.wait_for_callback(left)
    here = await asyncio.wait_for(waiting, TAKEOVER_TIMEOUT)
    assert (200, "because") == (here.status, here.json["output"])
    await wait_until(lambda: len(replicas.one.current.logs("lease_lost")) == 2)
    for replica in replicas.both:
        assert ["succeeded"] * 2 == [(await replica.get_run(r))["status"] for r in (left, str(here.json["id"]))]
        assert here.body == (await post_until_answered((replica,), PROMPT_STUDIO_BODY, "one")).body
    await wait_until(lambda: len(deliveries(receiver)) == 2)
    assert ["unknown", "succeeded"] == [delivered_run(each)["status"] for each in deliveries(receiver)]
    assert {f"msg_{left}", f"msg_{left}_1"} == message_ids(receiver)
    assert 2 == len(upstream.requests("POST"))


async def test_a_frozen_replica_starts_nothing_that_the_other_has(
    replicas: ReplicaPair, upstream: FakeUpstream
) -> None:
    """R45: suspended before the second attempt of a refused start, which the other replica made meanwhile."""
    starts = 0

    async def refuse_first(wire: UpstreamConnection) -> None:
        nonlocal starts
        starts += 1
        refusal = reply(429, {"message": "slowly"}, [("Retry-After", "1")])
        await (refusal if starts == 1 else prompt_studio_reply("because"))(wire)

    upstream.always("POST", STUDIO_RUN, refuse_first)
    await replicas.start_with_short_lease()
    run_id = await replicas.one.submit_async(PROMPT_STUDIO_BODY)
    async with asyncio.timeout(TAKEOVER_TIMEOUT):  # "queued" again, and the attempt counted
        while (await replicas.two.get_run(run_id))["attempts"] != 1 or starts != 1:
            await asyncio.sleep(0.01)
    await asyncio.sleep(0.2)
    with suspended(replicas.one.current.pid):
        end = await asyncio.wait_for(replicas.two.wait_for_end(run_id), TAKEOVER_TIMEOUT)
        assert ("succeeded", "because", 2) == (end["status"], end["output"], starts)
    await wait_until(lambda: replicas.one.current.logs("lease_lost"))
    assert (2, end) == (starts, await replicas.one.get_run(run_id))
