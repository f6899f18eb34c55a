"""The statements of docs/passthrough.md hold."""

from __future__ import annotations

import json
import re

import yaml

from gateway.passthrough_rules import PassthroughRule
from providers.promptlayer_passthrough_rules import SDK_CALLS
from tests.api.passthrough.test_forwarding import build_json_post
from tests.conftest import StartGateway
from tests.docs.test_readme import blocks
from tests.support.configuration import PROVIDER_SECRETS
from tests.support.process import ROOT
from tests.support.raw_client import send_request

PAGE = "docs/passthrough.md"


async def test_the_answer_that_is_shown_is_given(gateway: StartGateway) -> None:
    [shown] = blocks(PAGE, "json")
    running = await gateway(None, PROVIDER_SECRETS)
    assert json.loads(shown) == (await send_request(running.url, build_json_post("/log-request", {}))).json


def test_the_list_that_is_shown_is_the_one_that_the_name_stands_for() -> None:
    """tests/sdk/test_passthrough.py makes each call with the official SDKs."""
    rows = re.findall(r"^\| `((?:GET|POST|PATCH|DELETE) [^`]+)` \| (.+) \|$", (ROOT / PAGE).read_text(), re.MULTILINE)
    assert dict(SDK_CALLS) == dict(rows)


def test_the_settings_that_are_shown_are_accepted() -> None:
    name, listed = (yaml.safe_load(text)["clients"]["checkout"]["passthrough"] for text in blocks(PAGE, "yaml"))
    assert {"promptlayer": "sdk"} == name
    assert all(PassthroughRule.parse(text) for text in listed["promptlayer"])
