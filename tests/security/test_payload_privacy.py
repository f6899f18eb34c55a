"""Inputs and outputs of runs are in responses only (R95)."""

from __future__ import annotations

import pytest

from providers.contract import JsonValue
from tests.security.gateway_harness import GatewayHarness
from tests.security.sample_requests import run_with_body
from tests.support.fake_upstream.provider_responses import (
    LAYER_RESULTS,
    STUDIO_RUN,
    node,
    prompt_studio_reply,
    promptlayer_done,
)
from tests.support.fake_upstream.responses import reply
from tests.support.raw_client import build_get, build_run, send_request

pytestmark = pytest.mark.asyncio(loop_scope="session")

CANARY = "canary-b7d1c0ffee"


def script_canary_responses(harness: GatewayHarness) -> None:
    """Script responses of both providers with the canary in every place."""
    marked: JsonValue = {CANARY: [CANARY]}
    headers = [("X-Note", CANARY), ("Set-Cookie", f"a={CANARY}")]
    errors = [reply(status, {"message": CANARY, "error": CANARY}, headers) for status in (400, 404, 422, 429, 500, 503)]
    cut_off = reply(200, f'{{"{CANARY}'.encode())
    harness.upstream.script("POST", STUDIO_RUN, [prompt_studio_reply(marked), *errors, cut_off])
    done = promptlayer_done({"Answer": node(marked), CANARY: node(CANARY, is_output=False)})
    failed = promptlayer_done({CANARY: node(marked, "FAILED", error=f"it broke: {CANARY}")})
    harness.upstream.script("GET", LAYER_RESULTS, [reply(500, {"message": CANARY}), done, failed])


def canary_requests() -> list[bytes]:
    """Return requests with the canary in every place that a client controls."""
    given: dict[str, JsonValue] = {"input": {CANARY: CANARY}, "metadata": {CANARY: CANARY}, "return_all_outputs": True}
    wrong: list[dict[str, JsonValue]] = [{**given, name: CANARY} for name in ("timeout", "version", "label", CANARY)]
    headers = {"X-Note": CANARY, "User-Agent": CANARY, "Cookie": CANARY}
    return [
        *(run_with_body({"workflow": "studio", **given}) for _ in range(8)),
        *(run_with_body({"workflow": "layer", "label": CANARY, **given}) for _ in range(2)),
        *(run_with_body({"workflow": "studio", **each}) for each in wrong),
        build_run(CANARY.encode()),
        build_run(headers=headers),
        build_get(f"/{CANARY}?{CANARY}", headers),
    ]


async def test_prompts_and_results_are_not_seen(harness: GatewayHarness) -> None:
    """R95: at the level debug, inputs and outputs are in responses only, never in the log or metrics."""
    script_canary_responses(harness)
    answers = [await send_request(harness.url, data) for data in canary_requests()]
    assert {200, 400, 404, 422, 502} == {answer.status for answer in answers}
    lines = [*await harness.access_log("run", len(answers) - 1), *await harness.access_log("unknown")]
    assert len(answers) == len(lines)
    scraped = (await send_request(harness.gateway.ops_url, build_get("/metrics"))).body.decode()
    assert "runward_runs_total" in scraped
    assert (False, False) == (CANARY in harness.log_output, CANARY in scraped)
    # Positive control: the canary is in request and response.
    assert all(
        CANARY.encode() in body for body in (harness.upstream.received[0].body, answers[0].body, answers[8].body)
    )
