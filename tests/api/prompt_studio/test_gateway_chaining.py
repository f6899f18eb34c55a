"""Chained gateways: a Runward whose Prompt Studio provider is another Runward."""

from __future__ import annotations

import aiohttp
import pytest

from providers.contract import JsonValue
from tests.api.prompt_studio.app_client import INSTRUCTIONS_PATH, WORKFLOWS_PATH, PromptStudioApp
from tests.conftest import StartGateway
from tests.support.configuration import CLIENT_KEYS, PROVIDER_SECRETS, gateway_config
from tests.support.fake_upstream import faults
from tests.support.fake_upstream.provider_responses import STUDIO_RUN, prompt_studio_reply
from tests.support.fake_upstream.responses import reply
from tests.support.fake_upstream.upstream import FakeUpstream

CAR: JsonValue = {"completion": "The Bugatti Chiron Super Sport 300+"}


@pytest.fixture(params=["workflows", "instructions"])
async def app(gateway: StartGateway, session: aiohttp.ClientSession, request: pytest.FixtureRequest) -> PromptStudioApp:
    """An app whose gateway uses one of the two dialects with another gateway in front of the provider."""
    once: JsonValue = {"attempts": 1}
    inner = await gateway(retries=once)
    studio: JsonValue = {"prompt_studio": {"dialect": str(request.param)}}
    config = gateway_config(inner.url, inner.url, providers=studio, retries=once)
    return PromptStudioApp(
        session, await gateway(config, {**PROVIDER_SECRETS, "PROMPT_STUDIO_API_KEY": CLIENT_KEYS["two"]})
    )


@pytest.mark.parametrize("result", [CAR, "text", None, {"result": {"completion": 1}}, [1, {"completion": 2}]])
async def test_a_gateway_in_front_of_a_gateway_changes_nothing(
    app: PromptStudioApp, upstream: FakeUpstream, result: JsonValue
) -> None:
    """The result of Prompt Studio passes both gateways unchanged, in both dialects."""
    upstream.always("POST", STUDIO_RUN, prompt_studio_reply(result))
    responses = [await app.run("dep_test", path=path) for path in (WORKFLOWS_PATH, INSTRUCTIONS_PATH)]
    assert [(200, {"result": result}), (200, {"completion": result})] == [(t.status, t.body) for t in responses]
    assert 2 == len(upstream.requests("POST"))


async def test_a_gateway_in_front_of_a_gateway_repeats_only_what_did_not_run(
    app: PromptStudioApp, upstream: FakeUpstream
) -> None:
    """A start that may have run is sent once by both gateways; one that did not run is reported as such by both."""
    upstream.script("POST", STUDIO_RUN, [faults.rst_after_request])
    upstream.always("POST", STUDIO_RUN, reply(429, {}))
    lost, throttled = await app.run("dep_test"), await app.run("dep_test")
    assert (500, {}, "run_failed", "failed") == lost.summary  # a 500 says no more than that
    assert (503, "not_run") == (throttled.status, throttled.headers["Runward-Outcome"])
    assert 2 == len(upstream.requests("POST"))
