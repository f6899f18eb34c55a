"""Cancellation across replicas: a run that waits at one replica is cancelled at the other."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from tests.support.client import PROMPT_STUDIO_BODY
from tests.support.fake_upstream.provider_responses import STUDIO_RUN, prompt_studio_reply
from tests.support.process import metric_sum
from tests.support.waiting import WAIT_TIMEOUT, wait_until

if TYPE_CHECKING:
    from providers.contract import JsonValue
    from tests.replicas.replica_pair import ReplicaPair
    from tests.support.fake_upstream.connection import UpstreamConnection
    from tests.support.fake_upstream.upstream import FakeUpstream

ONE_AT_A_TIME: dict[str, JsonValue] = {"prompt_studio": {"limits": {"concurrency": 1, "max_wait": "20s"}}}


async def test_a_run_is_cancelled_at_the_other(replicas: ReplicaPair, upstream: FakeUpstream) -> None:
    """The client that waits at its owner is told at once, though the limit is occupied; no start, and one count."""
    released = asyncio.Event()

    async def held(connection: UpstreamConnection) -> None:
        await released.wait()
        await prompt_studio_reply("because")(connection)

    upstream.always("POST", STUDIO_RUN, held)
    await replicas.start(providers=ONE_AT_A_TIME)
    holder = await replicas.one.submit_async(PROMPT_STUDIO_BODY)
    await wait_until(lambda: upstream.requests("POST"))
    asking = asyncio.create_task(replicas.one.post(PROMPT_STUDIO_BODY, Idempotency_Key="one"))
    in_background = await replicas.one.submit_async(PROMPT_STUDIO_BODY)
    async with asyncio.timeout(WAIT_TIMEOUT):
        while len(queued := await replicas.two.list_runs("status=queued")) < 2:
            await asyncio.sleep(0.02)
    cancelled = [await replicas.two.cancel(str(run["id"])) for run in queued]
    assert [(200, "not_run")] * 2 == [(each.status, each.json["status"]) for each in cancelled]
    assert (409, "cancelled", "not_run") == (await asyncio.wait_for(asking, WAIT_TIMEOUT)).summary
    assert 1 == len(upstream.requests("POST"))
    released.set()
    assert "succeeded" == (await replicas.one.wait_for_end(holder))["status"]
    assert (
        "succeeded" == (await replicas.two.wait_for_end(await replicas.two.submit_async(PROMPT_STUDIO_BODY)))["status"]
    )
    assert "not_run" == (await replicas.one.get_run(in_background))["status"]
    assert 2 == len(upstream.requests("POST"))
    samples = [sample for each in replicas.both for sample in await each.current.metrics()]
    assert 2 == metric_sum(samples, "runward_runs_total", outcome="not_run")
