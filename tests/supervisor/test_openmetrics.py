"""OpenMetrics of a gateway with workers."""

from __future__ import annotations

import aiohttp

from tests.observability.test_openmetrics import TRACE, exemplars
from tests.supervisor.conftest import StartWorkers
from tests.support.client import PROMPT_STUDIO_BODY, auth_headers, post_run
from tests.support.fake_upstream.provider_responses import prompt_studio_reply
from tests.support.fake_upstream.upstream import FakeUpstream

OPENMETRICS = {"Accept": "application/openmetrics-text"}


async def test_workers_serve_openmetrics_with_the_traces_of_requests(
    start_workers: StartWorkers, upstream: FakeUpstream, session: aiohttp.ClientSession
) -> None:
    upstream.default = prompt_studio_reply("x")
    gateway = await start_workers(2)
    for number in range(8):
        trace = {"traceparent": f"00-{TRACE}-b7ad6b7169203331-01"} if number % 2 else {}
        await post_run(session, gateway.url, PROMPT_STUDIO_BODY, auth_headers("one") | trace)
    async with session.get(gateway.ops_url + "/metrics", headers=OPENMETRICS) as answer:
        text = await answer.text()
    assert answer.headers["Content-Type"].startswith("application/openmetrics-text; version=1.0.0")
    found = exemplars(text)
    assert {TRACE} == {labels["trace_id"] for labels, _ in found.values()}
    assert {"runward_run_duration_seconds_bucket"} == {name for name, _ in found}
