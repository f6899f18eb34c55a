"""A run that may have been executed is neither a 404 nor a 503, and is started once."""

from __future__ import annotations

import pytest

from tests.api.prompt_studio.app_client import INSTRUCTIONS_PATH
from tests.api.prompt_studio.conftest import StartApp
from tests.support.fake_upstream import faults
from tests.support.fake_upstream.faults import ResponseScript
from tests.support.fake_upstream.provider_responses import LAYER_RUN, STUDIO_RUN
from tests.support.fake_upstream.responses import reply
from tests.support.fake_upstream.upstream import FakeUpstream

pytestmark = pytest.mark.shared_gateway

FAULTS: dict[str, tuple[ResponseScript, int, str, str | None, int]] = {
    "error running the workflow": (reply(500, {}), 500, "run_failed", "failed", 1),
    "no answer": (faults.rst_after_request, 500, "upstream_disconnected", "unknown", 1),
    "bare 503": (reply(503, {}), 500, "upstream_error", "unknown", 1),
    "503 that says when": (reply(503, {}, {"Retry-After": "0"}), 503, "upstream_unavailable", "not_run", 2),
    "garbage": (faults.GARBAGE, 500, "upstream_invalid_response", "unknown", 1),
    "not found there": (reply(404, {}), 404, "workflow_not_found", "not_run", 1),
    "our key is bad": (reply(401, {}), 500, "upstream_credentials", "not_run", 1),
    "input refused": (reply(422, {}), 422, "rejected_by_provider", "not_run", 1),
}


@pytest.mark.parametrize("at", [STUDIO_RUN, LAYER_RUN])
async def test_a_fault_is_reported_and_the_start_is_not_repeated_unsafely(
    start_app: StartApp, upstream: FakeUpstream, at: str
) -> None:
    """R03, R12: a run that may have been executed is a 500 without Retry-After, and was started once."""
    app = await start_app(breaker={"failures": 1000})
    for name, (script, status, code, outcome, starts) in FAULTS.items():
        upstream.received.clear()
        upstream.always("POST", at, script)
        response = await (app.run("dep_test") if at == STUDIO_RUN else app.run("layer", path=INSTRUCTIONS_PATH))
        expected: tuple[object, ...] = (status, {}, code, outcome)
        if (name, at) == ("error running the workflow", LAYER_RUN):  # PromptLayer's 500 does not say that anything ran
            expected = (status, {}, "upstream_error", "unknown")
        assert (name, expected) == (name, response.summary)
        assert (name, starts) == (name, len(upstream.requests("POST")))
        assert (status == 503) == ("Retry-After" in response.headers)
