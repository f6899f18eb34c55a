"""Third-party adapter in a separate package, installed beside an unchanged Runward."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.configuration import PROVIDER_SECRETS, gateway_config
from tests.support.fake_upstream.responses import reply
from tests.support.process import ROOT, GatewayExitedError

if TYPE_CHECKING:
    from providers.contract import JsonValue
    from tests.conftest import StartGateway
    from tests.support.client import PostRun
    from tests.support.fake_upstream.upstream import FakeUpstream

PACKAGE = ROOT / "tests" / "example_provider"
SECRET = "queue_key_1c0b6e5f9a"  # of a provider that does not exist
WORKFLOW: dict[str, JsonValue] = {"workflow": "orders", "input": {"text": "hello"}}


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder into which pip installed the example package."""
    target = tmp_path_factory.mktemp("installed")
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--target", str(target)]
    done = python("-m", "pip", "install", *options, str(PACKAGE))
    assert 0 == done.returncode, done.stdout
    return target


def python(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run this Python; all output is in `stdout`."""
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env={**os.environ, **env},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=100,
        check=False,
    )


def config(upstream: FakeUpstream) -> dict[str, JsonValue]:
    return gateway_config(
        upstream.url,
        upstream.url,
        providers={"echo_queue": {"base_url": upstream.url, "api_key": {"env": "ECHO_QUEUE_KEY"}}},
        workflows={"orders": {"provider": "echo_queue", "name": "orders/new", "timeout": "3s"}},
    )


async def test_its_workflows_run_through_the_gateway(
    installed: Path, upstream: FakeUpstream, gateway: StartGateway, run: PostRun
) -> None:
    """One start, polls until the end, with the key in the provider's own header."""
    upstream.script("POST", "/queues/orders%2Fnew/jobs", [reply(202, {"job": "7f3a"})])
    states: list[JsonValue] = [{"state": "waiting"}, {"state": "done", "echo": {"text": "HELLO"}}]
    upstream.script("GET", "/jobs/7f3a", [reply(200, state) for state in states])
    env = {**PROVIDER_SECRETS, "ECHO_QUEUE_KEY": SECRET, "PYTHONPATH": str(installed)}
    answered = await run(await gateway(config(upstream), env), WORKFLOW)
    assert (200, {"text": "HELLO"}) == (answered.status, answered.json["output"])
    assert ("echo_queue", "7f3a") == (answered.json["provider"], answered.json["provider_run_id"])
    start, *polls = upstream.requests()
    assert {"message": {"text": "hello"}} == json.loads(start.body)
    assert 2 == len(polls)
    assert {SECRET} == {dict(request.headers)["X-Queue-Key"] for request in upstream.requests()}


async def test_its_faults_are_reported_like_those_of_every_provider(
    installed: Path, upstream: FakeUpstream, gateway: StartGateway, run: PostRun
) -> None:
    """R15: retry table and outcomes are the gateway's; an adapter only names the cause."""
    upstream.script("POST", "/queues/orders%2Fnew/jobs", [reply(500, {}), reply(202, {"job": "1"})])
    upstream.script("GET", "/jobs/1", [reply(200, {"state": "failed"})])
    running = await gateway(
        config(upstream), {**PROVIDER_SECRETS, "ECHO_QUEUE_KEY": SECRET, "PYTHONPATH": str(installed)}
    )
    assert (502, "upstream_error", "unknown") == (await run(running, WORKFLOW)).summary
    assert (502, "run_failed", "failed") == (await run(running, WORKFLOW)).summary
    assert 2 == len(upstream.requests("POST"))


@pytest.mark.process
def test_it_keeps_the_contract_of_adapters(installed: Path) -> None:
    """The test file that CONTRIBUTING names discovers the new adapter, and it passes."""
    words = ("-q", "-p", "no:cacheprovider", "tests/providers/test_adapter_contract.py", "-k", "echo_queue")
    done = python("-m", "pytest", *words, PYTHONPATH=str(installed))
    assert 0 == done.returncode, done.stdout
    assert re.search(r"^[1-9]\d* passed", done.stdout, re.MULTILINE), done.stdout


async def test_a_package_that_is_not_installed_is_named(upstream: FakeUpstream, gateway: StartGateway) -> None:
    """R84: the gateway does not start without it, and lists the installed adapters."""
    with pytest.raises(
        GatewayExitedError, match=r"providers\.echo_queue\.adapter: no such adapter .* promptlayer"
    ) as died:
        await gateway(config(upstream), {**PROVIDER_SECRETS, "ECHO_QUEUE_KEY": SECRET})
    assert SECRET not in str(died.value)
