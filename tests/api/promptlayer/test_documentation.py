"""Each command of docs/moving-from-promptlayer.md is executed."""

from __future__ import annotations

import json
import shlex
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from gateway.api.promptlayer import openapi
from gateway.auth.keys import hash_key
from gateway.settings import load
from tests.docs.test_readme import blocks
from tests.support.callback_receiver import CALLBACK_PATH, deliveries
from tests.support.client import ReceivedResponse
from tests.support.configuration import CLIENT_KEYS, PROVIDER_SECRETS, gateway_config, merged
from tests.support.fake_upstream.provider_responses import (
    LAYER_RESULTS,
    node,
    prompt_studio_reply,
    promptlayer_done,
    promptlayer_started,
)
from tests.support.fake_upstream.responses import reply
from tests.support.gateway_restarts import CALLBACK_SECRETS
from tests.support.process import ROOT, GatewayProcess, metric_sum
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from pathlib import Path

    import aiohttp

    from tests.conftest import StartGateway
    from tests.support.fake_upstream.upstream import FakeUpstream

PAGE = "docs/moving-from-promptlayer.md"
ENVIRON = {**PROVIDER_SECRETS, **CALLBACK_SECRETS}


def test_its_configuration_is_accepted(tmp_path: Path) -> None:
    """The configuration of the page is valid, without warnings."""
    [text] = blocks(PAGE, "yaml")
    (tmp_path / "gateway.yaml").write_text(text)
    assert [] == load(tmp_path / "gateway.yaml", ENVIRON).warnings()


def test_its_table_has_every_route() -> None:
    documented = {
        line.split("`")[1] for line in (ROOT / PAGE).read_text().splitlines() if line.startswith(("| `GET", "| `POST"))
    }
    paths = openapi.paths() | openapi.realtime_paths()
    real = {f"{method.upper()} {path}" for path, methods in paths.items() for method in methods}  # type: ignore[attr-defined]  # a mapping
    assert {route.replace("{workflow_name}", "{name or id}") for route in real} == documented


@pytest.fixture
async def shop_gateway(gateway: StartGateway, upstream: FakeUpstream) -> GatewayProcess:
    """Gateway with the configuration of the page and a known key."""
    upstream.always("POST", "/workflows/team%2Ftriage/run", promptlayer_started(77))
    upstream.always("GET", LAYER_RESULTS, promptlayer_done({"Answer": node("shipping")}))
    upstream.always("POST", "/v1/workflows/dep_2cP7/run", prompt_studio_reply({"completion": "The Bugatti"}))
    page = yaml.safe_load(blocks(PAGE, "yaml")[0])
    page["clients"]["shop"]["keys"] = [{"hash": hash_key(CLIENT_KEYS["one"])}]
    page["callbacks"]["allow"] = ["127.0.0.1/32"]
    config = {**gateway_config(upstream.url, upstream.url), "clients": page["clients"]}
    return await gateway(merged(config, page), ENVIRON)


async def run_curl(command: str, session: aiohttp.ClientSession, values: dict[str, str]) -> ReceivedResponse:
    """Execute one command."""
    for name, value in values.items():
        command = command.replace(f"${name}", value)
    assert "$" not in command
    words = shlex.split(command.replace("\\\n", " "))
    options = dict(pairwise(words))
    headers = dict(value.split(": ", 1) for flag, value in pairwise(words) if flag == "-H")
    url = next(word for word in words if word.startswith("http"))
    method, data = options.get("-X", "GET"), options.get("-d")
    async with session.request(method, url, headers=headers, data=data) as answer:
        return ReceivedResponse(answer.status, answer.headers, await answer.read(), 0.0)


def without_execution_id(document: Any) -> Any:
    """Return the response without the random execution id."""
    return {**document, "workflow_version_execution_id": 0} if "workflow_version_execution_id" in document else document


async def test_its_commands_do_what_it_says(shop_gateway: GatewayProcess, session: aiohttp.ClientSession) -> None:
    values = {"PROMPTLAYER_BASE_URL": shop_gateway.url, "PROMPTLAYER_API_KEY": CLIENT_KEYS["one"]}
    start, results, studio, look = blocks(PAGE, "sh")
    started, nodes, again, _callback = (json.loads(text) for text in blocks(PAGE, "json"))
    for command, documented in ((studio, again), (start, started)):
        answered = await run_curl(command, session, values)
        assert (201, without_execution_id(documented)) == (answered.status, without_execution_id(answered.json))
        values |= {"EXECUTION": str(answered.json["workflow_version_execution_id"])}
        values |= {"RUN": answered.headers["Runward-Run-Id"]}
        while (answered := await run_curl(results, session, values)).status == 202:
            pass
        assert 200 == answered.status
        assert documented is again or nodes == answered.json
        assert documented is started or ["Output"] == list(answered.json)
    assert {"ticket": "4711"} == (await run_curl(look, session, values)).json["metadata"]
    assert 2 == metric_sum(await shop_gateway.metrics(), "runward_runs_total", api="promptlayer", outcome="succeeded")


async def test_its_callback_is_what_is_posted(
    shop_gateway: GatewayProcess, session: aiohttp.ClientSession, upstream: FakeUpstream
) -> None:
    upstream.always("POST", CALLBACK_PATH, reply(204))
    url = f"{shop_gateway.url}/workflows/triage/run"
    body = {"callback_url": upstream.url + CALLBACK_PATH}
    async with session.post(url, json=body, headers={"X-API-KEY": CLIENT_KEYS["one"]}) as answer:
        assert 202 == answer.status
    await wait_until(lambda: deliveries(upstream))
    documented = json.loads(blocks(PAGE, "json")[-1])
    assert without_execution_id(documented) == without_execution_id(json.loads(deliveries(upstream)[0].body))


async def test_what_is_not_served_is_a_403_that_says_what_to_do(
    shop_gateway: GatewayProcess, session: aiohttp.ClientSession
) -> None:
    async with session.post(
        f"{shop_gateway.url}/log-request", json={}, headers={"X-API-KEY": CLIENT_KEYS["one"]}
    ) as answer:
        assert 403 == answer.status
        assert "passthrough" in (await answer.json())["message"]
