"""The bench starts the gateway, sees it from outside, and ends it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from tests.client import STUDIO
from tests.configuration import SECRETS, gateway_config, merged
from tests.faults.provider_answers import prompt_studio_reply
from tests.process import DiedError, start_gateway, total

if TYPE_CHECKING:
    from pathlib import Path

    from providers.contract import JsonValue
    from tests.client import RunWorkflow
    from tests.conftest import StartGateway
    from tests.faults.upstream import Upstream


async def test_a_started_gateway_answers_and_can_be_looked_into(
    upstream: Upstream, gateway: StartGateway, run: RunWorkflow
) -> None:
    """Its log is JSON from the first line, its metrics can be read, its memory and files counted."""
    upstream.default = prompt_studio_reply({"completion": "because"})
    running = await gateway()
    answered = await run(running, STUDIO, client="two", X_Request_Id="of-the-test")
    assert (200, {"completion": "because"}) == (answered.status, answered.json["output"])
    assert 1 == len(running.logs("listening"))
    assert 1 == total(await running.metrics(), "runward_upstream_calls_total", provider="prompt_studio")
    assert 0 == total(await running.metrics(), "runward_upstream_calls_total", provider="promptlayer")
    assert running.peak_rss_bytes() >= running.rss_bytes() > 10_000_000
    assert running.open_fds() > 5


async def test_stopping_is_polite_and_killing_is_not(gateway: StartGateway) -> None:
    """SIGTERM ends it with 0; SIGKILL with the signal's number; both only once."""
    polite, killed = await asyncio.gather(gateway(), gateway())
    assert (None, 0) == (polite.exit_code, await polite.stop())
    assert -9 == await killed.kill()
    assert (0, -9) == (await polite.stop(), await killed.kill())


async def test_a_gateway_that_does_not_start_says_why(tmp_path: Path) -> None:
    """What it wrote is in the exception, and nothing is left running."""
    with pytest.raises(DiedError, match="no_such_section"):
        await start_gateway(tmp_path, {"no_such_section": {}}, SECRETS)


def test_overrides_replace_values_wherever_they_stand() -> None:
    config = gateway_config("http://a", "http://b", workflows={"studio": {"timeout": "9s"}, "new": {"x": 1}})
    workflows = config["workflows"]
    assert isinstance(workflows, dict)
    assert {"provider": "prompt_studio", "name": "dep_test", "timeout": "9s", "max_timeout": "3s"} == workflows[
        "studio"
    ]
    assert ["studio", "layer", "new"] == list(workflows)


def test_merging_leaves_what_it_merges_alone() -> None:
    base: dict[str, JsonValue] = {"a": {"b": 1}}
    assert {"a": {"b": 1, "c": 2}, "d": 3} == merged(base, {"a": {"c": 2}, "d": 3})
    assert {"a": {"b": 1}} == base
