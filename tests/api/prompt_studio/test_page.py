"""Each line of docs/moving-from-prompt-studio.md is tried."""

from __future__ import annotations

import json
import shlex

import pytest
import yaml
from yarl import URL

from gateway.access.keys import hash_key
from tests.api.prompt_studio.client import App, Told
from tests.api.prompt_studio.conftest import Serve
from tests.api.prompt_studio.test_face import layer_answers, listed
from tests.configuration import KEYS
from tests.faults import faults
from tests.faults.answers import reply
from tests.faults.faults import Script
from tests.faults.provider_answers import prompt_studio_reply
from tests.faults.upstream import Upstream
from tests.process import ROOT
from tests.test_readme import blocks

PAGE = "docs/moving-from-prompt-studio.md"
RUN = "/v1/workflows/dep_2cP7/run"


@pytest.fixture
async def app(serve: Serve) -> App:
    """The page's configuration, with the test's key and upstreams."""
    [text] = blocks(PAGE, "yaml")
    told = yaml.safe_load(text)
    [client] = told["clients"].values()
    client["keys"] = [{"hash": hash_key(KEYS["one"])}]
    return await serve(workflows=told["workflows"], clients={"one": client})


async def paste(app: App, line: str) -> Told:
    """Do what curl would do with the line."""
    line = line.replace("\\\n", " ").replace("$RUNWARD_KEY", app.key).replace("$RUNWARD", app.url)
    program, *words = shlex.split(line)
    options = list(zip(words[::2], words[1::2], strict=True))
    values = dict(options)
    assert ("curl", {"-X", "--url", "--header", "--data"}) == (program, set(values))
    headers = dict(value.split(": ", 1) for name, value in options if name == "--header")
    return await app.ask(values["-X"], URL(values["--url"]), headers, values["--data"].encode())


async def test_the_lines_to_paste_get_the_answers_that_are_shown(app: App, upstream: Upstream) -> None:
    answers = [json.loads(text) for text in blocks(PAGE, "json")]
    upstream.always("POST", RUN, prompt_studio_reply(answers[0]["result"]))
    told = [await paste(app, line) for line in blocks(PAGE, "sh")]
    assert [(200, answer) for answer in answers] == [(each.status, each.body) for each in told]


async def test_the_id_that_was_given_to_promptlayers_workflow_leads_there(app: App, upstream: Upstream) -> None:
    layer_answers(upstream, "because", at="triage")
    told = await app.run("dep_8sKq")
    assert (200, {"result": {"completion": "because"}}) == (told.status, told.body)
    assert {"dep_2cP7": "cars", "dep_8sKq": "triage"} == listed((await app.deployments()).body)


ROWS: list[tuple[str, str, Script | None]] = [
    ("404", "", None),
    ("503", "not_run", reply(503, {}, {"Retry-After": "0"})),
    ("500", "failed", reply(500, {})),
    ("500", "unknown", faults.rst_after_request),
    ("500", "not_run", reply(401, {})),
]


@pytest.mark.parametrize(("status", "outcome", "script"), ROWS)
async def test_the_table_is_true(
    app: App, upstream: Upstream, status: str, outcome: str, script: Script | None
) -> None:
    """The rows of 400 to 422 and 429 are test_face.py's."""
    row = f"| {status} | {f'`{outcome}`' if outcome else ''} |".replace("|  |", "| |")
    assert row in (ROOT / PAGE).read_text()
    upstream.always("POST", RUN, script or reply(500, {}))
    told = await app.run("dep_2cP7" if script else "dep_none")
    assert (int(status), outcome or None) == (told.status, told.headers.get("Runward-Outcome"))
