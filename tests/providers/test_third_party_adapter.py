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

from tests.supervisor.test_workers_on_redis import WORKERS
from tests.support.configuration import PROVIDER_SECRETS, gateway_config
from tests.support.fake_upstream.responses import reply
from tests.support.gateway_restarts import RestartableGateway
from tests.support.process import ROOT, GatewayExitedError
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    import aiohttp

    from providers.contract import JsonValue
    from tests.conftest import StartGateway
    from tests.support.client import PostRun
    from tests.support.fake_upstream.upstream import FakeUpstream
    from tests.support.valkey import ValkeyServer

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


async def test_its_runs_are_stopped(
    installed: Path, upstream: FakeUpstream, gateway: StartGateway, session: aiohttp.ClientSession, tmp_path: Path
) -> None:
    """The provider is asked once, the run ends as its polls report, and no other is started, also after a crash."""
    upstream.always("POST", "/queues/orders%2Fnew/jobs", reply(202, {"job": "7f3a"}))
    upstream.always("GET", "/jobs/7f3a", reply(200, {"state": "waiting"}))
    upstream.always("DELETE", "/jobs/7f3a", reply(202, {}))
    restartable = RestartableGateway(
        gateway,
        session,
        tmp_path / "runward.db",
        providers={"echo_queue": {"base_url": upstream.url, "api_key": {"env": "ECHO_QUEUE_KEY"}}},
        workflows={"orders": {"provider": "echo_queue", "name": "orders/new", "timeout": "20s"}},
        store={"lease": "2s"},
    )
    restartable.environment |= {"ECHO_QUEUE_KEY": SECRET, "PYTHONPATH": str(installed)}
    await restartable.start()
    run_id = await restartable.submit_async(WORKFLOW)
    await wait_until(lambda: upstream.requests("GET", "/jobs/7f3a"))
    for _ in range(2):
        cancelled = await restartable.cancel(run_id)
        cancel = cancelled.json["cancel"]
        assert isinstance(cancel, dict)
        assert (202, "running", "stopping") == (cancelled.status, cancelled.json["status"], cancel["state"])
    assert 1 == len(upstream.requests("DELETE"))
    assert 404 == (await restartable.cancel(run_id, client="two")).status
    await restartable.kill_and_restart()
    assert 202 == (await restartable.cancel(run_id)).status  # also a process that has not adopted it
    assert 2 == len(upstream.requests("DELETE"))
    upstream.always("GET", "/jobs/7f3a", reply(200, {"state": "stopped"}))
    ended = await restartable.wait_for_end(run_id)
    assert ("failed", "run_failed", 1) == (ended["status"], dict(ended["error"])["code"], ended["attempts"])  # type: ignore[arg-type]
    refused = await restartable.cancel(run_id)
    assert (409, "run_ended") == (refused.status, refused.json["code"])
    assert (1, 2) == (len(upstream.requests("POST")), len(upstream.requests("DELETE")))
    assert {SECRET} == {dict(request.headers)["X-Queue-Key"] for request in upstream.requests()}


async def test_an_operator_has_its_runs_stopped_through_any_worker(  # noqa: PLR0917 - fixtures
    installed: Path,
    upstream: FakeUpstream,
    gateway: StartGateway,
    run: PostRun,
    session: aiohttp.ClientSession,
    valkey: ValkeyServer,
) -> None:
    """The operations port of the supervisor knows which providers can stop runs."""
    upstream.always("POST", "/queues/orders%2Fnew/jobs", reply(202, {"job": "7f3a"}))
    upstream.always("GET", "/jobs/7f3a", reply(200, {"state": "waiting"}))
    upstream.always("DELETE", "/jobs/7f3a", reply(202, {}))
    env = {**WORKERS, "ECHO_QUEUE_KEY": SECRET, "PYTHONPATH": str(installed)}
    running = await gateway({**config(upstream), "store": {"url": valkey.url}}, env)
    async with session.get(f"{running.ops_url}/providers") as answer:
        abilities = {each["provider"]: each["can_stop_runs"] for each in (await answer.json())["providers"]}
    assert {"echo_queue": True, "promptlayer": False, "prompt_studio": False} == abilities
    run_id = (await run(running, WORKFLOW, Prefer="respond-async")).json["id"]
    await wait_until(lambda: upstream.requests("GET"))
    url = f"{running.ops_url}/api/runs/{run_id}/cancel"
    async with session.post(url, headers={"Content-Type": "application/json"}) as answer:
        assert (202, "stopping") == (answer.status, (await answer.json())["cancel"]["state"])
    assert 1 == len(upstream.requests("DELETE"))


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
