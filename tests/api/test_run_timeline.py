"""`GET /runs/{id}/timeline`: what happened to a run, for its client only."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from tests.support.client import PROMPT_STUDIO_BODY, PROMPTLAYER_BODY, auth_headers
from tests.support.fake_upstream.provider_responses import STUDIO_RUN, prompt_studio_reply
from tests.support.waiting import WAIT_TIMEOUT

if TYPE_CHECKING:
    from collections.abc import Mapping

    import aiohttp

    from providers.contract import JsonValue
    from tests.conftest import StartGateway
    from tests.support.fake_upstream.upstream import FakeUpstream


async def read(session: aiohttp.ClientSession, url: str, client: str = "one") -> tuple[int, dict[str, Any]]:
    async with session.get(url, headers=auth_headers(client)) as answer:
        return answer.status, await answer.json()


async def start(session: aiohttp.ClientSession, url: str, body: Mapping[str, JsonValue], **headers: str) -> str:
    """Start a run; returns its id."""
    async with session.post(f"{url}/run", json=dict(body), headers=auth_headers("one") | headers) as answer:
        document = await answer.json()
        return str(document.get("id") or document["run_id"])


async def recorded(session: aiohttp.ClientSession, url: str, run_id: str) -> dict[str, Any]:
    """Return the timeline of a run once it has ended in the store."""
    async with asyncio.timeout(WAIT_TIMEOUT):
        while True:
            status, document = await read(session, f"{url}/runs/{run_id}/timeline")
            if status == 200 and document["events"] and document["events"][-1]["event"] == "ended":
                return document
            await asyncio.sleep(0.05)


async def test_a_client_reads_the_timelines_of_its_own_runs(
    gateway: StartGateway, upstream: FakeUpstream, session: aiohttp.ClientSession
) -> None:
    """Of runs whose results are kept and of others; a run of another client does not exist for it."""
    upstream.always("POST", STUDIO_RUN, prompt_studio_reply("because"))
    running = await gateway()
    plain = await start(session, running.url, PROMPT_STUDIO_BODY)
    durable = await start(session, running.url, PROMPT_STUDIO_BODY, **{"Idempotency-Key": "key-1"})
    for run_id in (plain, durable):
        document = await recorded(session, running.url, run_id)
        called, ended = document["events"][-2:]
        assert (run_id, "called", "start", 200) == (
            document["id"],
            called["event"],
            called["operation"],
            called["status"],
        )
        assert ("ended", "succeeded") == (ended["event"], ended["status"])
        assert {"owner", "connection_reused"}.isdisjoint({*called, *ended})
        status, problem = await read(session, f"{running.url}/runs/{run_id}/timeline", "two")
        assert (404, "not_found") == (status, problem["code"])
    status, _ = await read(session, f"{running.url}/runs/run_0/timeline")
    assert 404 == status
    async with session.get(f"{running.url}/runs/{plain}/timeline") as answer:
        assert 401 == answer.status


async def test_a_run_that_was_not_kept_says_so(
    gateway: StartGateway, upstream: FakeUpstream, session: aiohttp.ClientSession
) -> None:
    """Its record has no output, and operators see what it is."""
    upstream.always("POST", STUDIO_RUN, prompt_studio_reply("because"))
    running = await gateway()
    run_id = await start(session, running.url, {**PROMPT_STUDIO_BODY, "metadata": {"ticket": "1"}})
    await recorded(session, running.url, run_id)
    _, shown = await read(session, f"{running.url}/runs/{run_id}")
    assert (False, None, {"ticket": "1"}) == (shown["output_kept"], shown["output"], shown["metadata"])
    _, record = await read(session, f"{running.ops_url}/api/runs/{run_id}")
    assert (False, "one", "run") == (record["kept"], record["client"], record["api"])
    assert "ended" == record["timeline"][-1]["event"]


async def test_a_failed_run_has_its_failures_in_the_timeline(
    gateway: StartGateway, session: aiohttp.ClientSession
) -> None:
    """The upstream has no script for it and refuses every start."""
    running = await gateway()
    run_id = await start(session, running.url, PROMPTLAYER_BODY)
    ended = (await recorded(session, running.url, run_id))["events"][-1]
    assert "code" in ended
