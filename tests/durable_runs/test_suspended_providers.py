"""Providers suspended on the operations port: no start reaches them, what runs is polled on; also after a crash."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from tests.support.client import PROMPT_STUDIO_BODY, PROMPTLAYER_BODY, auth_headers
from tests.support.fake_upstream.provider_responses import (
    LAYER_RESULTS,
    LAYER_RUN,
    STUDIO_RUN,
    node,
    prompt_studio_reply,
    promptlayer_done,
    promptlayer_running,
    promptlayer_started,
)
from tests.support.gateway_restarts import RestartableGateway
from tests.support.operations_port import get_providers, set_mode
from tests.support.process import metric_sum
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from pathlib import Path

    import aiohttp

    from providers.contract import JsonValue
    from tests.conftest import StartGateway
    from tests.support.fake_upstream.upstream import FakeUpstream

PATIENT: JsonValue = {"timeout": "2m", "max_timeout": "2m"}


@pytest.fixture
async def gateways(gateway: StartGateway, session: aiohttp.ClientSession, tmp_path: Path) -> RestartableGateway:
    """Gateways on one store file; one is running."""
    workflows: JsonValue = {"studio": PATIENT, "layer": PATIENT}
    started = RestartableGateway(gateway, session, tmp_path / "runward.db", workflows=workflows)
    await started.start()
    return started


async def test_a_suspended_provider_gets_no_start_until_it_is_resumed_also_after_a_crash(
    upstream: FakeUpstream, gateways: RestartableGateway, session: aiohttp.ClientSession
) -> None:
    """Clients that wait are refused, runs in the background are kept; the other provider is not concerned."""
    upstream.always("POST", STUDIO_RUN, prompt_studio_reply("because"))
    upstream.always("POST", LAYER_RUN, promptlayer_started(787))
    upstream.always("GET", LAYER_RESULTS, promptlayer_done({"Answer": node("because")}))
    changed = await set_mode(session, gateways.current.ops_url, "prompt_studio", "suspended", "garbage, see #12")
    assert ("suspended", "garbage, see #12") == (changed["mode"], changed["note"])
    waiting = []
    for restart in (False, True):
        if restart:
            await gateways.kill_and_restart()
        refused = await gateways.post(PROMPT_STUDIO_BODY)
        assert (503, "provider_suspended", "not_run") == refused.summary
        assert ("30", True) == (refused.headers["Retry-After"], refused.json["retryable"])
        waiting.append(await gateways.submit_async(PROMPT_STUDIO_BODY))
        assert 200 == (await gateways.post(PROMPTLAYER_BODY)).status
    await asyncio.sleep(1.5)  # more than the interval at which waiting runs look
    assert ["queued"] * 2 == [(await gateways.get_run(run_id))["status"] for run_id in waiting]
    shown = (await get_providers(session, gateways.current.ops_url))["prompt_studio"]
    assert {**changed, "circuits": shown["circuits"]} == shown
    samples = await gateways.current.metrics()
    assert 1 == metric_sum(samples, "runward_provider_override", provider="prompt_studio", mode="suspended")
    assert [] == upstream.requests("POST", STUDIO_RUN)
    resumed = await set_mode(session, gateways.current.ops_url, "prompt_studio", "auto")
    assert ("auto", None) == (resumed["mode"], resumed["since"])
    assert ["succeeded"] * 2 == [(await gateways.wait_for_end(run_id))["status"] for run_id in waiting]
    assert 2 == len(upstream.requests("POST", STUDIO_RUN))
    samples = await gateways.current.metrics()
    assert 0 == metric_sum(samples, "runward_provider_override", provider="prompt_studio")


async def test_a_run_in_progress_is_polled_to_its_end(
    upstream: FakeUpstream, gateways: RestartableGateway, session: aiohttp.ClientSession
) -> None:
    """Of one provider two workflows are concerned; the run that was started before ends as it would have."""
    upstream.always("POST", LAYER_RUN, promptlayer_started(787))
    upstream.always("GET", LAYER_RESULTS, promptlayer_running())
    run_id = await gateways.submit_async(PROMPTLAYER_BODY)
    await wait_until(lambda: upstream.requests("GET", LAYER_RESULTS))
    await set_mode(session, gateways.current.ops_url, "promptlayer", "suspended")
    before = len(upstream.requests("GET", LAYER_RESULTS))
    assert "provider_suspended" == (await gateways.post(PROMPTLAYER_BODY)).json["code"]
    await wait_until(lambda: len(upstream.requests("GET", LAYER_RESULTS)) > before)
    upstream.always("GET", LAYER_RESULTS, promptlayer_done({"Answer": node("because")}))
    assert ("succeeded", 1) == (
        (await gateways.wait_for_end(run_id))["status"],
        len(upstream.requests("POST", LAYER_RUN)),
    )


async def test_a_circuit_is_opened_and_closed_by_hand(
    upstream: FakeUpstream, gateways: RestartableGateway, session: aiohttp.ClientSession
) -> None:
    """Opened: background runs end too. Each change is one log line; the same request again is none."""
    upstream.always("POST", STUDIO_RUN, prompt_studio_reply("because"))
    ops_url = gateways.current.ops_url
    opened = [await set_mode(session, ops_url, "prompt_studio", "open", "n") for _ in range(2)]
    assert opened[0] == opened[1]
    refused = await gateways.post(PROMPT_STUDIO_BODY)
    assert (503, "circuit_open", "not_run") == refused.summary
    run_id = await gateways.submit_async(PROMPT_STUDIO_BODY)
    assert "not_run" == (await gateways.wait_for_end(run_id))["status"]
    assert [] == upstream.requests("POST", STUDIO_RUN)
    for mode in ("closed", "auto", "auto"):
        await set_mode(session, ops_url, "prompt_studio", mode)
        assert 200 == (await gateways.post(PROMPT_STUDIO_BODY)).status
    lines = gateways.current.logs("provider_override_changed")
    assert [("open", "n"), ("closed", ""), ("auto", "")] == [(line["mode"], line["note"]) for line in lines]
    assert {"prompt_studio"} == {line["provider"] for line in lines}


async def test_overrides_are_for_operators(gateways: RestartableGateway, session: aiohttp.ClientSession) -> None:
    """Not on the public port and not by a browser; each wrong request has its problem."""
    url = f"{gateways.current.ops_url}/providers/override/prompt_studio"
    good = b'{"mode": "suspended"}'
    json = {"Content-Type": "application/json"}
    for target, headers, body, expected in (
        (url.replace(gateways.current.ops_url, gateways.current.url), {**json, **auth_headers("one")}, good, 404),
        (url, {"Content-Type": "text/plain"}, good, 415),
        (url, {**json, "Origin": gateways.current.ops_url}, good, 403),
        (url + "x", json, good, 404),
        (url.replace("prompt_studio", "%2e%2e%00" + "x" * 1000), json, good, 404),
        (url, json, b'{"mode": "drain"}', 422),
        (url, json, b"{}", 422),
        (url, json, b'{"mode": "open", "by": "me"}', 422),
        (url, json, b'{"mode": "open", "note": "%s"}' % (b"x" * 201), 422),
        (url, json, b'{"mode": "open", "note": "a\\nb"}', 422),
        (url, json, b'{"mode": "open", "note": 1}', 422),
        (url, json, b'["open"]', 422),
        (url, json, b"{", 400),
        (url, json, b'{"note": "%s"}' % (b"x" * 5000), 413),
    ):
        async with session.post(target, headers=headers, data=body) as answer:
            assert expected == answer.status, (target, body)
            assert "application/problem+json" == answer.content_type
    modes = {each["mode"] for each in (await get_providers(session, gateways.current.ops_url)).values()}
    assert {"auto"} == modes
