"""What goes into runs and comes out of them stands in answers only (R95)."""

from __future__ import annotations

import pytest

from providers.contract import JsonValue
from tests.edge.raw import ask, get, post
from tests.edge.requests import posting
from tests.edge.world import World
from tests.faults.answers import reply
from tests.faults.provider_answers import (
    LAYER_RESULTS,
    STUDIO_RUN,
    node,
    prompt_studio_reply,
    promptlayer_done,
)

pytestmark = pytest.mark.asyncio(loop_scope="session")

CANARY = "canary-b7d1c0ffee"


def secretive(world: World) -> None:
    """Let both providers answer with the canary wherever they can."""
    marked: JsonValue = {CANARY: [CANARY]}
    headers = [("X-Note", CANARY), ("Set-Cookie", f"a={CANARY}")]
    errors = [reply(status, {"message": CANARY, "error": CANARY}, headers) for status in (400, 404, 422, 429, 500, 503)]
    cut_off = reply(200, f'{{"{CANARY}'.encode())
    world.upstream.script("POST", STUDIO_RUN, [prompt_studio_reply(marked), *errors, cut_off])
    done = promptlayer_done({"Answer": node(marked), CANARY: node(CANARY, is_output=False)})
    failed = promptlayer_done({CANARY: node(marked, "FAILED", error=f"it broke: {CANARY}")})
    world.upstream.script("GET", LAYER_RESULTS, [reply(500, {"message": CANARY}), done, failed])


def told() -> list[bytes]:
    """Requests with the canary wherever a client can put it."""
    given: dict[str, JsonValue] = {"input": {CANARY: CANARY}, "metadata": {CANARY: CANARY}, "return_all_outputs": True}
    wrong: list[dict[str, JsonValue]] = [{**given, name: CANARY} for name in ("timeout", "version", "label", CANARY)]
    headers = {"X-Note": CANARY, "User-Agent": CANARY, "Cookie": CANARY}
    return [
        *(posting({"workflow": "studio", **given}) for _ in range(8)),
        *(posting({"workflow": "layer", "label": CANARY, **given}) for _ in range(2)),
        *(posting({"workflow": "studio", **each}) for each in wrong),
        post(CANARY.encode()),
        post(headers=headers),
        get(f"/{CANARY}?{CANARY}", headers),
    ]


async def test_prompts_and_results_are_not_seen(world: World) -> None:
    """R95: at the level debug, what goes in and what comes out stands in answers only, never in the log or metrics."""
    secretive(world)
    answers = [await ask(world.url, data) for data in told()]
    assert {200, 400, 404, 422, 502} == {answer.status for answer in answers}
    lines = [*await world.lines("run", len(answers) - 1), *await world.lines("unknown")]
    assert len(answers) == len(lines)
    scraped = (await ask(world.gateway.ops_url, get("/metrics"))).body.decode()
    assert "runward_runs_total" in scraped
    assert (False, False) == (CANARY in world.said, CANARY in scraped)
    # The check sees something: it went in, it came out.
    assert all(CANARY.encode() in place for place in (world.upstream.log[0].body, answers[0].body, answers[8].body))
