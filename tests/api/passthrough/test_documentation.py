"""The statements of docs/passthrough.md hold."""

from __future__ import annotations

import json

import yaml

from gateway.passthrough_rules import PassthroughRule
from tests.api.passthrough.test_forwarding import build_json_post
from tests.api.passthrough.test_official_sdk import ALLOWED_ROUTES, SDK_CALLS
from tests.conftest import StartGateway
from tests.docs.test_readme import blocks
from tests.support.configuration import PROVIDER_SECRETS
from tests.support.raw_client import send_request

PAGE = "docs/passthrough.md"


async def test_the_answer_that_is_shown_is_given(gateway: StartGateway) -> None:
    [shown] = blocks(PAGE, "json")
    running = await gateway(None, PROVIDER_SECRETS)
    assert json.loads(shown) == (await send_request(running.url, build_json_post("/log-request", {}))).json


def test_the_list_that_is_shown_is_the_one_that_the_sdk_was_tried_with() -> None:
    """tests/api/passthrough/test_official_sdk.py makes one call for each entry, named in its comment."""
    [text] = blocks(PAGE, "yaml")
    listed = yaml.safe_load(text)["clients"]["checkout"]["passthrough"]["promptlayer"]
    assert ALLOWED_ROUTES == listed
    paths = [path for _, path, *_ in SDK_CALLS.values()]
    assert [] == [
        entry for entry in listed if not any(PassthroughRule.parse(entry).matches("POST", path) for path in paths)
    ]
