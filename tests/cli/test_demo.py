"""`runward demo` as a process: the printed commands work."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shlex
import signal
import socket
import sys
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest

from gateway.app import factories
from gateway.cli.demo.banner import OUTCOME_EXAMPLES, PROVIDER_EXAMPLES
from gateway.cli.demo.settings import WORKFLOWS, DemoKeys, demo_settings
from gateway.cli.demo.traffic import CHOICES, CYCLE, EPISODES, choose, episode_at
from gateway.clock import SystemClock
from tests.support.demo import demo
from tests.support.process import GatewayProcess, metric_sum
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    import aiohttp

    from providers.contract import JsonValue


def printed_commands(running: GatewayProcess) -> list[list[str]]:
    """Return the printed commands, split as a shell does."""
    return [shlex.split(line) for line in running.stdout.splitlines() if line.startswith("curl ")]


async def run_printed_command(command: list[str], session: aiohttp.ClientSession) -> dict[str, JsonValue]:
    """Execute a printed command, with curl if it is installed."""
    try:
        curl = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    except FileNotFoundError:
        headers = dict(word.split(": ", 1) for flag, word in pairwise(command) if flag == "-H")
        async with session.post(command[2], data=command[-1], headers=headers) as answer:
            return cast("dict[str, JsonValue]", await answer.json())
    output, _ = await curl.communicate()
    assert 0 == curl.returncode
    return cast("dict[str, JsonValue]", json.loads(output))


async def test_the_printed_commands_work_and_are_counted(session: aiohttp.ClientSession) -> None:
    """One run at each provider, visible in the metrics; SIGINT ends the demo with exit code 0."""
    async with demo() as running:
        *runs, studio, metrics = printed_commands(running)
        answers = [await run_printed_command(line, session) for line in runs]
        assert [("succeeded", "promptlayer"), ("succeeded", "prompt_studio")] == [
            (answer["status"], answer["provider"]) for answer in answers
        ]
        assert f"{running.ops_url}/metrics" in metrics
        assert f"{running.url}/v1/workflows/answer/run" in studio
        samples = await running.metrics()
        for provider in ("promptlayer", "prompt_studio"):
            assert 1 == metric_sum(samples, "runward_runs_total", provider=provider, outcome="succeeded")
        for page in (f"{running.url}/docs", f"{running.ops_url}/readyz"):
            async with session.get(page) as answer:
                assert 200 == answer.status
        assert f"{running.url}/docs" in running.stdout
        os.kill(running.pid, signal.SIGINT)
        await wait_until(lambda: running.exit_code is not None)
        assert (0, "") == (running.exit_code, running.stderr)


_SDK = (
    "from promptlayer import PromptLayer; print(PromptLayer().run_workflow('answer', input_variables={'prompt': 'a'}))"
)


async def test_apps_of_the_providers_need_only_the_printed_lines(session: aiohttp.ClientSession) -> None:
    """Prompt Studio's own endpoint, and PromptLayer's SDK with the two printed variables."""
    async with demo() as running:
        studio = printed_commands(running)[-2]
        result = (await run_printed_command(studio, session))["result"]
        assert isinstance(result, dict)
        assert {"completion"} == set(result)
        [variables] = [line for line in running.stdout.splitlines() if line.startswith("export ")]
        told = dict(word.split("=", 1) for word in variables.split()[1:])
        app = await asyncio.create_subprocess_exec(
            sys.executable, "-c", _SDK, env=told, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
        output, errors = await app.communicate()
        assert (0, b"") == (app.returncode, errors)
        assert b"{'completion': 'No model was asked" in output


async def test_the_other_workflows_end_as_the_banner_says(session: aiohttp.ClientSession) -> None:
    """One workflow for each outcome."""
    async with demo() as running:
        line = printed_commands(running)[0]
        bodies = [json.dumps({"workflow": alias, "input": {"message": "hello"}}) for alias, _, _ in OUTCOME_EXAMPLES]
        answers = await asyncio.gather(*(run_printed_command([*line[:-1], body], session) for body in bodies))
        expected = [(alias, outcome) for alias, _, outcome in OUTCOME_EXAMPLES]
        assert expected == [
            (alias, answer.get("outcome", answer["status"]))
            for (alias, _, _), answer in zip(OUTCOME_EXAMPLES, answers, strict=True)
        ]
        assert {"succeeded", "failed", "not_run", "unknown"} == {outcome for _, outcome in expected}


async def test_a_taken_port_is_replaced_and_reported() -> None:
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]
        async with demo("--port", str(port), "--ops-port", "0") as running:
            assert f"Port {port} is in use" in running.stdout
            assert not running.url.endswith(f":{port}")
            assert printed_commands(running)[0][2] == f"{running.url}/run"


async def test_nothing_is_reachable_from_outside() -> None:
    """Every printed address is a loopback address, and each start creates a new key."""
    keys = set()
    for _ in range(2):
        async with demo() as running:
            assert {"127.0.0.1"} == set(re.findall(r"http://([\w.]+):", running.stdout))
            keys |= set(re.findall(r"\brw_\w+", running.stdout))
    assert 2 == len(keys)


def test_the_configuration_of_the_demo_is_valid() -> None:
    """Without warnings; every workflow in the banner exists."""
    settings = demo_settings("http://127.0.0.1:1", DemoKeys.make(SystemClock()), Path("demo.db"), port=0, ops_port=0)
    assert [] == settings.warnings()
    for name in settings.providers:
        factories.adapter(name, settings)
    asked = {str(body["workflow"]) for _, body in PROVIDER_EXAMPLES} | {alias for alias, _, _ in OUTCOME_EXAMPLES}
    assert set() == asked - set(WORKFLOWS)


def test_the_demo_shows_a_label_and_a_fallback() -> None:
    assert any(workflow.label for workflow in WORKFLOWS.values())
    assert any(workflow.fallback for workflow in WORKFLOWS.values())


async def test_the_traffic_has_runs_of_several_workflows(session: aiohttp.ClientSession) -> None:
    """Runs that the console shows begin without a request; they are durable. SIGINT ends the traffic too."""
    async with demo("--port", "0", "--ops-port", "0", "--traffic") as running:
        assert f"{running.ops_url}/console" in running.stdout

        async def workflows() -> set[str]:
            async with session.get(f"{running.ops_url}/api/runs?kept=true&tag=traffic") as answer:
                return {run["workflow"] for run in (await answer.json())["runs"]}

        while len(await workflows()) < 2:
            await asyncio.sleep(0.1)
        os.kill(running.pid, signal.SIGINT)
        await wait_until(lambda: running.exit_code is not None)
        assert (0, "") == (running.exit_code, running.stderr)


def test_the_episodes_of_the_traffic_name_configured_workflows() -> None:
    assert {name for _, name in EPISODES} == set(CHOICES)
    assert set() == {alias for choices in CHOICES.values() for _, alias in choices} - set(WORKFLOWS)
    assert ["usual", "failing", "slow", "usual"] == [episode_at(at) for at in (0, 70, CYCLE - 1, CYCLE)]
    assert ["support-triage", "never-answers"] == [choose(CHOICES["usual"], share) for share in (0.0, 0.9999)]


@pytest.mark.parametrize("name", ["RUNWARD_PROVIDERS__PROMPTLAYER__BASE_URL", "RUNWARD_SERVER__HOST"])
def test_the_environment_has_no_effect(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings of a real gateway in the environment do not send demo runs to a real provider."""
    monkeypatch.setenv(name, "https://elsewhere.example")
    settings = demo_settings("http://127.0.0.1:1", DemoKeys.make(SystemClock()), Path("demo.db"), port=0, ops_port=0)
    assert "http://127.0.0.1:1" == settings.providers["promptlayer"].base_url
    assert "127.0.0.1" == settings.server.host
