"""Each command of docs/moving-from-prompt-studio.md is executed."""

from __future__ import annotations

import json
import shlex

import pytest
import yaml
from yarl import URL

from gateway.auth.keys import hash_key
from tests.api.prompt_studio.app_client import AppResponse, PromptStudioApp
from tests.api.prompt_studio.conftest import StartApp
from tests.api.prompt_studio.test_handlers import deployments_by_id, script_promptlayer
from tests.docs.test_readme import blocks
from tests.support.configuration import CLIENT_KEYS
from tests.support.fake_upstream import faults
from tests.support.fake_upstream.faults import ResponseScript
from tests.support.fake_upstream.provider_responses import prompt_studio_reply
from tests.support.fake_upstream.responses import reply
from tests.support.fake_upstream.upstream import FakeUpstream
from tests.support.process import ROOT

pytestmark = pytest.mark.shared_gateway

PAGE = "docs/moving-from-prompt-studio.md"
RUN = "/v1/workflows/dep_2cP7/run"


@pytest.fixture
async def app(start_app: StartApp) -> PromptStudioApp:
    """The page's configuration, with the test's key and upstreams."""
    [text] = blocks(PAGE, "yaml")
    response = yaml.safe_load(text)
    [client] = response["clients"].values()
    client["keys"] = [{"hash": hash_key(CLIENT_KEYS["one"])}]
    return await start_app(workflows=response["workflows"], clients={"one": client})


async def run_curl(app: PromptStudioApp, command: str) -> AppResponse:
    """Execute the curl command."""
    command = command.replace("\\\n", " ").replace("$RUNWARD_KEY", app.key).replace("$RUNWARD", app.url)
    program, *words = shlex.split(command)
    options = list(zip(words[::2], words[1::2], strict=True))
    values = dict(options)
    assert ("curl", {"-X", "--url", "--header", "--data"}) == (program, set(values))
    headers = dict(value.split(": ", 1) for name, value in options if name == "--header")
    return await app.request(values["-X"], URL(values["--url"]), headers, values["--data"].encode())


async def test_the_documented_commands_get_the_documented_responses(
    app: PromptStudioApp, upstream: FakeUpstream
) -> None:
    answers = [json.loads(text) for text in blocks(PAGE, "json")]
    upstream.always("POST", RUN, prompt_studio_reply(answers[0]["result"]))
    response = [await run_curl(app, line) for line in blocks(PAGE, "sh")]
    assert [(200, answer) for answer in answers] == [(each.status, each.body) for each in response]


async def test_the_id_that_was_given_to_promptlayers_workflow_leads_there(
    app: PromptStudioApp, upstream: FakeUpstream
) -> None:
    script_promptlayer(upstream, "because", name="triage")
    response = await app.run("dep_8sKq")
    assert (200, {"result": {"completion": "because"}}) == (response.status, response.body)
    assert {"dep_2cP7": "cars", "dep_8sKq": "triage"} == deployments_by_id((await app.deployments()).body)


ROWS: list[tuple[str, str, ResponseScript | None]] = [
    ("404", "", None),
    ("503", "not_run", reply(503, {}, {"Retry-After": "0"})),
    ("500", "failed", reply(500, {})),
    ("500", "unknown", faults.rst_after_request),
    ("500", "not_run", reply(401, {})),
]


@pytest.mark.parametrize(("status", "outcome", "script"), ROWS)
async def test_the_status_table_matches_the_responses(
    app: PromptStudioApp, upstream: FakeUpstream, status: str, outcome: str, script: ResponseScript | None
) -> None:
    """test_handlers.py covers the rows of 400 to 422 and 429."""
    row = f"| {status} | {f'`{outcome}`' if outcome else ''} |".replace("|  |", "| |")
    assert row in (ROOT / PAGE).read_text()
    upstream.always("POST", RUN, script or reply(500, {}))
    response = await app.run("dep_2cP7" if script else "dep_none")
    assert (int(status), outcome or None) == (response.status, response.headers.get("Runward-Outcome"))
