"""The operations port of a supervisor: its responses, and the OpenAPI document that it serves."""

from __future__ import annotations

import aiohttp

from tests.supervisor.conftest import StartWorkers
from tests.support.openapi_conversation import JSON, Conversation


async def test_the_responses_of_a_supervisor_fit_its_document(
    start_workers: StartWorkers, session: aiohttp.ClientSession
) -> None:
    """Status, media type, headers and schema."""
    gateway = await start_workers(1)
    talk = await Conversation(session, gateway.ops_url).open()
    for path in ("/healthz", "/readyz", "/metrics", "/docs", "/docs-public", "/openapi-public.json", "/providers"):
        await talk.send("GET", path)
    await talk.send("GET", "/callbacks")
    await talk.send("GET", "/api/runs")
    await talk.send("GET", "/api/runs/{id}", "run_other")
    await talk.send("POST", "/callbacks/replay/{id}", "run_other", headers=JSON)
    await talk.send("POST", "/providers/override/{id}", "nothing", headers=JSON, body=b'{"mode":"auto"}')
    await talk.send("GET", "/api/attention")
    await talk.send("POST", "/api/runs/{id}/judge", "run_other", headers=JSON, body=b'{"verdict":"found_paid"}')
    await talk.send("PUT", "/logs/level", headers=JSON, body=b'{"level":"warning","for":60}')
    await talk.send("GET", "/logs/level")
