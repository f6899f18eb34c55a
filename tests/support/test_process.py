"""Start, observation and end of a gateway process."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from tests.support.client import PROMPT_STUDIO_BODY
from tests.support.configuration import PROVIDER_SECRETS, gateway_config, merged
from tests.support.fake_upstream.provider_responses import prompt_studio_reply
from tests.support.process import GatewayExitedError, metric_sum, start_gateway

if TYPE_CHECKING:
    from pathlib import Path

    from providers.contract import JsonValue
    from tests.conftest import StartGateway
    from tests.support.client import PostRun
    from tests.support.fake_upstream.upstream import FakeUpstream


async def test_a_started_gateway_answers_and_can_be_inspected(
    upstream: FakeUpstream, gateway: StartGateway, run: PostRun
) -> None:
    """Log, metrics, memory and file descriptors can be read."""
    upstream.default = prompt_studio_reply({"completion": "because"})
    running = await gateway()
    answered = await run(running, PROMPT_STUDIO_BODY, client="two", X_Request_Id="of-the-test")
    assert (200, {"completion": "because"}) == (answered.status, answered.json["output"])
    assert 1 == len(running.logs("listening"))
    assert 1 == metric_sum(await running.metrics(), "runward_upstream_calls_total", provider="prompt_studio")
    assert 0 == metric_sum(await running.metrics(), "runward_upstream_calls_total", provider="promptlayer")
    assert running.peak_rss_bytes() >= running.rss_bytes() > 10_000_000
    assert running.open_fds() > 5


async def test_sigterm_drains_and_sigkill_does_not(gateway: StartGateway) -> None:
    """SIGTERM: exit code 0; SIGKILL: the number of the signal."""
    polite, killed = await asyncio.gather(gateway(), gateway())
    assert (None, 0) == (polite.exit_code, await polite.stop())
    assert -9 == await killed.kill()
    assert (0, -9) == (await polite.stop(), await killed.kill())


async def test_a_failed_start_reports_its_reason(tmp_path: Path) -> None:
    """Its output is in the exception, and no process is left."""
    with pytest.raises(GatewayExitedError, match="no_such_section"):
        await start_gateway(tmp_path, {"no_such_section": {}}, PROVIDER_SECRETS)


def test_overrides_replace_values_at_any_depth() -> None:
    config = gateway_config("http://a", "http://b", workflows={"studio": {"timeout": "9s"}, "new": {"x": 1}})
    workflows = config["workflows"]
    assert isinstance(workflows, dict)
    assert {"provider": "prompt_studio", "name": "dep_test", "timeout": "9s", "max_timeout": "3s"} == workflows[
        "studio"
    ]
    assert ["studio", "layer", "new"] == list(workflows)


def test_merging_changes_neither_argument() -> None:
    base: dict[str, JsonValue] = {"a": {"b": 1}}
    assert {"a": {"b": 1, "c": 2}, "d": 3} == merged(base, {"a": {"c": 2}, "d": 3})
    assert {"a": {"b": 1}} == base
