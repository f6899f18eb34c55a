"""Sampling of the access log: a share of the lines of successful requests, and every other line."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pytest
from pydantic import ValidationError

from gateway.settings import Settings
from tests.support.client import PROMPT_STUDIO_BODY, PostRun, auth_headers
from tests.support.config_files import write_gateway_config
from tests.support.fake_upstream.provider_responses import STUDIO_RUN, prompt_studio_reply
from tests.support.fake_upstream.responses import reply
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    import aiohttp

    from tests.conftest import StartGateway
    from tests.support.fake_upstream.upstream import FakeUpstream
    from tests.support.process import GatewayProcess


async def fetch(session: aiohttp.ClientSession, gateway: GatewayProcess, method: str, path: str) -> int:
    """Return the status of a request of a client."""
    async with session.request(method, gateway.url + path, headers=auth_headers("one")) as answer:
        return answer.status


def logged(gateway: GatewayProcess) -> Counter[tuple[object, object]]:
    """Return the number of access lines by route and status."""
    return Counter((line["route"], line["status"]) for line in gateway.logs("request"))


async def test_with_a_share_of_0_only_lines_of_successes_are_left_out(
    gateway: StartGateway, upstream: FakeUpstream, session: aiohttp.ClientSession, run: PostRun
) -> None:
    """Errors, refusals, failed runs, slow requests and cancellations are logged; metrics count everything."""
    running = await gateway(logs={"sample": 0})
    upstream.script("POST", STUDIO_RUN, [prompt_studio_reply("x"), prompt_studio_reply("x"), reply(500, {})])
    upstream.default = prompt_studio_reply("x")
    assert [200, 200, 502] == [(await run(running, PROMPT_STUDIO_BODY)).status for _ in range(3)]
    assert 202 == (await run(running, PROMPT_STUDIO_BODY, Prefer="respond-async")).status
    asked = [("GET", "/runs"), ("GET", "/docs"), ("GET", "/nowhere"), ("POST", "/runs/run_none/cancel")]
    assert [200, 200, 404, 404] == [await fetch(session, running, *each) for each in asked]
    await wait_until(lambda: logged(running)["runs", 404])
    assert {("run", 502): 1, ("unknown", 404): 1, ("runs", 404): 1} == logged(running)
    assert not any("sample_rate" in line for line in running.logs("request"))
    counted = {
        sample.labels["status"]: sample.value
        for sample in await running.metrics()
        if sample.name == "runward_requests_total" and sample.labels["route"] == "run"
    }
    assert {"200": 2, "202": 1, "502": 1} == counted


async def test_a_slow_success_is_logged(gateway: StartGateway, upstream: FakeUpstream, run: PostRun) -> None:
    """Without a rate: it stands for itself."""
    running = await gateway(logs={"sample": 0, "slow": "1ms"})
    upstream.default = prompt_studio_reply("x")
    assert 200 == (await run(running, PROMPT_STUDIO_BODY)).status
    await wait_until(lambda: running.logs("request"))
    assert not any("sample_rate" in line for line in running.logs("request"))


async def test_a_line_of_a_share_has_its_rate_and_a_reload_changes_it(
    gateway: StartGateway, upstream: FakeUpstream, run: PostRun
) -> None:
    running = await gateway(logs={"sample": 0.5})
    upstream.default = prompt_studio_reply("x")
    for _ in range(60):
        await run(running, PROMPT_STUDIO_BODY)
    await wait_until(lambda: running.logs("request"))
    rates = [line.get("sample_rate") for line in running.logs("request")]
    assert {0.5} == set(rates)
    assert 0 < len(rates) < 60
    write_gateway_config(running, upstream.url, logs={"sample": 1})
    await wait_until(lambda: running.logs("reloaded"))
    before = len(running.logs("request"))
    for _ in range(5):
        await run(running, PROMPT_STUDIO_BODY)
    await wait_until(lambda: len(running.logs("request")) == before + 5)
    assert not any("sample_rate" in line for line in running.logs("request")[before:])
    assert [] == running.logs("needs_restart")


@pytest.mark.parametrize("share", [-0.1, 1.5, "half"])
def test_a_share_is_from_0_to_1(share: float | str) -> None:
    with pytest.raises(ValidationError, match="sample"):
        Settings.model_validate({"logs": {"sample": share}})
