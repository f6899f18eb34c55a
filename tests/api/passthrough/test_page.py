"""docs/passthrough.md says what is so."""

from __future__ import annotations

import json

import yaml

from gateway.passages import Passage
from tests.api.passthrough.test_face import posted
from tests.api.passthrough.test_sdk import LISTED, USES
from tests.configuration import SECRETS
from tests.conftest import StartGateway
from tests.edge.raw import ask
from tests.test_readme import blocks

PAGE = "docs/passthrough.md"


async def test_the_answer_that_is_shown_is_given(gateway: StartGateway) -> None:
    [shown] = blocks(PAGE, "json")
    here = await gateway(None, SECRETS)
    assert json.loads(shown) == (await ask(here.url, posted("/log-request", {}))).json


def test_the_list_that_is_shown_is_the_one_that_the_sdk_was_tried_with() -> None:
    """tests/api/passthrough/test_sdk.py makes the calls; each entry has one, by the name in its comment."""
    [text] = blocks(PAGE, "yaml")
    listed = yaml.safe_load(text)["clients"]["checkout"]["passthrough"]["promptlayer"]
    assert LISTED == listed
    paths = [path for _, path, *_ in USES.values()]
    assert [] == [entry for entry in listed if not any(Passage.read(entry).has("POST", path) for path in paths)]
