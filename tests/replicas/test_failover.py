"""A replica that dies, stops or freezes, and the other one that goes on with its runs."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING

from tests.client import LAYER, STUDIO
from tests.durable.lives import until
from tests.durable.receiver import HOOK, deliveries, document, message_ids
from tests.faults import faults
from tests.faults.answers import reply
from tests.faults.provider_answers import (
    LAYER_RESULTS,
    LAYER_RUN,
    STUDIO_RUN,
    node,
    prompt_studio_reply,
    promptlayer_done,
    promptlayer_running,
    promptlayer_started,
)
from tests.replicas.fleet import SOON, Fleet, frozen, insist

if TYPE_CHECKING:
    from providers.contract import JsonValue
    from tests.durable.lives import Lives
    from tests.faults.upstream import Upstream
    from tests.faults.wire import Wire

DONE = promptlayer_done({"Answer": node("because")})
ONE_AT_A_TIME: Mapping[str, JsonValue] = {"limits": {"concurrency": 1, "max_wait": "20s"}}


def goes_on(upstream: Upstream) -> None:
    """Runs start at PromptLayer, and do not end."""
    upstream.always("POST", LAYER_RUN, promptlayer_started(77))
    upstream.always("GET", LAYER_RESULTS, promptlayer_running())


async def all_followed(replica: Lives, runs: list[str]) -> None:
    """Wait until the provider's own id of every run is written down."""
    async with asyncio.timeout(SOON):
        for run_id in runs:
            while (await replica.shown(run_id))["provider_run_id"] is None:
                await asyncio.sleep(0.02)


async def test_who_dies_is_followed_within_a_lease_and_a_look(
    fleet: Fleet, upstream: Upstream, receiver: Upstream
) -> None:
    """R48, R55: the survivor asks about every run, starts none again, and calls back once for each."""
    goes_on(upstream)
    await fleet.begin_short()
    runs = [await fleet.one.accepted({**LAYER, "callback_url": receiver.url + HOOK}) for _ in range(10)]
    await all_followed(fleet.two, runs)
    assert -9 == await fleet.one.now.kill()
    upstream.always("GET", LAYER_RESULTS, DONE)
    ends = await asyncio.wait_for(asyncio.gather(*(fleet.two.ended(run_id) for run_id in runs)), SOON)
    assert [("succeeded", "because")] * 10 == [(end["status"], end["output"]) for end in ends]
    assert [{"state": "delivered"}] * 10 == [await fleet.two.told(run_id) for run_id in runs]
    assert {f"msg_{run_id}" for run_id in runs} == message_ids(receiver)
    assert (10, 10) == (len(deliveries(receiver)), len(upstream.requests("POST", LAYER_RUN)))


async def test_each_phase_has_its_end_when_a_replica_dies(fleet: Fleet, upstream: Upstream) -> None:
    """R44, R49: what was being sent is unknown and never sent again; what still stood in line is started, once."""
    upstream.always("POST", STUDIO_RUN, faults.hang)
    goes_on(upstream)
    await fleet.begin_short(providers={"promptlayer": dict(ONE_AT_A_TIME)})
    followed = await fleet.one.accepted(LAYER)
    await all_followed(fleet.two, [followed])
    in_line, sending = await fleet.one.accepted(LAYER), await fleet.one.accepted(STUDIO)
    keyed = asyncio.create_task(fleet.one.post(STUDIO, Idempotency_Key="one"))
    await until(lambda: len(upstream.requests("POST", STUDIO_RUN)) == 2)
    assert -9 == await fleet.one.now.kill()
    await asyncio.wait([keyed])
    assert keyed.exception() is not None
    upstream.always("POST", STUDIO_RUN, prompt_studio_reply("twice"))
    upstream.always("GET", LAYER_RESULTS, DONE)
    runs = (followed, in_line, sending)
    ends = await asyncio.wait_for(asyncio.gather(*(fleet.two.ended(run_id) for run_id in runs)), SOON)
    assert ["succeeded", "succeeded", "unknown"] == [end["status"] for end in ends]
    answered = await asyncio.wait_for(insist((fleet.two,), STUDIO, "one"), SOON)
    assert (502, "upstream_disconnected", "unknown") == answered.summary
    assert (2, 2) == tuple(len(upstream.requests("POST", path)) for path in (LAYER_RUN, STUDIO_RUN))


async def test_the_slots_of_a_dead_replica_are_free_after_the_lease(fleet: Fleet, upstream: Upstream) -> None:
    """R89, R90: shared limits take as long as the runs, also for runs that nobody kept."""
    upstream.script("POST", STUDIO_RUN, [faults.hang])
    upstream.always("POST", STUDIO_RUN, prompt_studio_reply("because"))
    await fleet.begin_short(providers={"prompt_studio": dict(ONE_AT_A_TIME)})
    lost = asyncio.create_task(fleet.one.post(STUDIO))
    await until(lambda: upstream.requests("POST"))
    assert -9 == await fleet.one.now.kill()
    await asyncio.wait([lost])
    assert lost.exception() is not None
    answered = await asyncio.wait_for(fleet.two.post(STUDIO), SOON)
    assert (200, 2) == (answered.status, len(upstream.requests("POST")))


async def test_who_stops_hands_over_at_once(fleet: Fleet, upstream: Upstream) -> None:
    """R98: to a replica that was there all the time, and would look by itself in 20 minutes."""
    goes_on(upstream)
    await fleet.begin(store={"lease": "1h"}, server={"grace": "1s"})
    runs = [await fleet.one.accepted(LAYER) for _ in range(5)]
    await all_followed(fleet.two, runs)
    assert 0 == await fleet.one.now.stop()
    upstream.always("GET", LAYER_RESULTS, DONE)
    ends = await asyncio.wait_for(asyncio.gather(*(fleet.two.ended(run_id) for run_id in runs)), SOON)
    assert (["succeeded"] * 5, 5) == ([end["status"] for end in ends], len(upstream.requests("POST")))


async def test_a_frozen_replica_overwrites_nothing(fleet: Fleet, upstream: Upstream, receiver: Upstream) -> None:
    """R44, R49, R55: it thaws with results of runs that the other one has ended as unknown by then.

    Its own client gets the result, which is true; the store, the key and the callback keep the word that was first.
    """
    upstream.always("POST", STUDIO_RUN, faults.after(1.0, prompt_studio_reply("because")))
    await fleet.begin_short()
    left = await fleet.one.accepted({**STUDIO, "callback_url": receiver.url + HOOK})
    waiting = asyncio.create_task(fleet.one.post(STUDIO, Idempotency_Key="one"))
    await until(lambda: len(upstream.requests("POST")) == 2)
    with frozen(fleet.one.now.pid):
        assert "unknown" == (await asyncio.wait_for(fleet.two.ended(left), SOON))["status"]
        there = await asyncio.wait_for(insist((fleet.two,), STUDIO, "one"), SOON)
        assert (502, "upstream_disconnected", "unknown") == there.summary
        assert {"state": "delivered"} == await fleet.two.told(left)
    here = await asyncio.wait_for(waiting, SOON)
    assert (200, "because") == (here.status, here.json["output"])
    await until(lambda: len(fleet.one.now.logs("taken_over")) == 2)
    for replica in fleet.both:
        assert ["unknown"] * 2 == [(await replica.shown(r))["status"] for r in (left, str(here.json["id"]))]
        assert there.body == (await insist((replica,), STUDIO, "one")).body
    assert ["unknown"] == [document(each)["status"] for each in deliveries(receiver)]
    assert 2 == len(upstream.requests("POST"))


async def test_a_frozen_replica_starts_nothing_that_the_other_has(fleet: Fleet, upstream: Upstream) -> None:
    """R45: it stood before the second attempt of a start that was refused; the other one made that meanwhile."""
    starts = 0

    async def refuse_first(wire: Wire) -> None:
        nonlocal starts
        starts += 1
        refusal = reply(429, {"message": "slowly"}, [("Retry-After", "1")])
        await (refusal if starts == 1 else prompt_studio_reply("because"))(wire)

    upstream.always("POST", STUDIO_RUN, refuse_first)
    await fleet.begin_short()
    run_id = await fleet.one.accepted(STUDIO)
    async with asyncio.timeout(SOON):  # "queued" again, and the attempt counted
        while (await fleet.two.shown(run_id))["attempts"] != 1 or starts != 1:
            await asyncio.sleep(0.01)
    await asyncio.sleep(0.2)
    with frozen(fleet.one.now.pid):
        end = await asyncio.wait_for(fleet.two.ended(run_id), SOON)
        assert ("succeeded", "because", 2) == (end["status"], end["output"], starts)
    await until(lambda: fleet.one.now.logs("taken_over"))
    assert (2, end) == (starts, await fleet.one.shown(run_id))
