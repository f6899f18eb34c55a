"""Requests that cancel runs at an operations port, of every kind."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from gateway.json import strict_json
from tests.support.client import PROMPT_STUDIO_BODY
from tests.support.fake_upstream.provider_responses import STUDIO_RUN, prompt_studio_reply
from tests.support.openapi_conversation import JSON, Conversation, node
from tests.support.waiting import WAIT_TIMEOUT

if TYPE_CHECKING:
    from tests.support.fake_upstream.connection import UpstreamConnection
    from tests.support.fake_upstream.upstream import FakeUpstream

CANCEL = "/api/runs/{id}/cancel"
HELD = {"held": True}
"""Input of a run that does not end before the conversation."""


def hold_runs(upstream: FakeUpstream) -> asyncio.Event:
    """Let Prompt Studio run workflows; those with the input `HELD` end once the event is set, which is returned."""
    released = asyncio.Event()

    async def run(connection: UpstreamConnection) -> None:
        assert connection.request is not None
        if b'"held"' in connection.request.body:
            await released.wait()
        await prompt_studio_reply("because")(connection)

    upstream.always("POST", STUDIO_RUN, run)
    return released


async def converse_about_cancellations(talk: Conversation, run_id: str) -> None:
    """Cancel a run that has ended, one in progress, and one whose provider is suspended."""
    await talk.send("POST", CANCEL, run_id, headers=JSON)
    await talk.send("POST", CANCEL, "run_other", headers=JSON)
    for headers in ({**JSON, "Origin": "null"}, {"Content-Type": "text/plain"}):
        await talk.send("POST", CANCEL, run_id, headers=headers, body=b"{}")
    held = await _start(talk, "ops-held")
    async with asyncio.timeout(WAIT_TIMEOUT):
        while "running" != node(await talk.send("GET", "/api/runs/{id}", held))["status"]:
            await asyncio.sleep(0.02)
    assert "too_late" == await _cancel(talk, held)
    override = "/providers/override/{id}"
    await talk.send("POST", override, "prompt_studio", headers=JSON, body=b'{"mode":"suspended"}')
    queued = await _start(talk, "ops-queued")
    assert ["cancelled"] * 2 == [await _cancel(talk, queued) for _ in range(2)]
    shown = node(await talk.send("GET", "/api/runs/{id}", queued))
    assert ("not_run", "An operator cancelled the run.") == (shown["status"], node(shown, "error")["detail"])
    await talk.send("POST", override, "prompt_studio", headers=JSON, body=b'{"mode":"auto"}')


async def _start(talk: Conversation, key: str) -> str:
    order = {"client": "one", "idempotency_key": key, "run": {**PROMPT_STUDIO_BODY, "input": HELD}}
    return str(node(await talk.send("POST", "/api/run", headers=JSON, body=strict_json.write(order)))["id"])


async def _cancel(talk: Conversation, run_id: str) -> object:
    return node(await talk.send("POST", CANCEL, run_id, headers=JSON), "cancel")["state"]
