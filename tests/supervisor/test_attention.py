"""Attention list and judgements at the operations port of a supervisor."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.api.admin.test_attention import get_items
from tests.api.admin.test_judgement import judge, judge_recorded
from tests.supervisor.test_workers_on_redis import WORKERS
from tests.support.client import PROMPT_STUDIO_BODY
from tests.support.fake_upstream.faults import rst_after_request
from tests.support.fake_upstream.provider_responses import STUDIO_RUN
from tests.support.process import metric_sum
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    import aiohttp

    from tests.conftest import StartGateway
    from tests.support.client import PostRun
    from tests.support.fake_upstream.upstream import FakeUpstream
    from tests.support.valkey import ValkeyServer


async def test_a_supervisor_lists_what_its_workers_know(
    valkey: ValkeyServer,
    upstream: FakeUpstream,
    gateway: StartGateway,
    run: PostRun,
    session: aiohttp.ClientSession,
) -> None:
    """From their metrics and the store; a judged run needs no attention any more."""
    upstream.always("POST", STUDIO_RUN, rst_after_request)
    running = await gateway(env=WORKERS, store={"url": valkey.url})
    run_id = str((await run(running, PROMPT_STUDIO_BODY, Idempotency_Key="one")).json["run_id"])
    running.config.write_text("server: {")
    await wait_until(lambda: len(running.logs("reload_refused")) >= 2)
    items = await get_items(session, running.ops_url)
    assert {("unknown_outcomes", "prompt_studio"), ("config_refused", "configuration")} <= items.keys()
    counted = await running.metrics()
    assert metric_sum(counted, "runward_attention_items", kind="config_refused") == 1
    assert 200 == await judge_recorded(session, running.ops_url, run_id)
    status, document = await judge(session, running.ops_url, "run_other", {"verdict": "found_paid"})
    assert (404, "not_found") == (status, document["code"])


async def test_an_unreachable_store_of_a_supervisor_is_no_empty_list(
    valkey: ValkeyServer, gateway: StartGateway, session: aiohttp.ClientSession
) -> None:
    """Its sources are items of the kind source_unavailable."""
    running = await gateway(env=WORKERS, store={"url": valkey.url})
    valkey.kill()
    items = await get_items(session, running.ops_url)
    sources = ("unknown_outcomes", "unfinished_runs", "callbacks", "overrides")
    assert {("source_unavailable", name) for name in sources} <= items.keys()
