"""Official SDKs, unmodified, each in a separate process."""

from __future__ import annotations

import asyncio
import atexit
import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import certifi
import pytest

from tests.support.configuration import CLIENT_KEYS
from tests.support.process import ROOT

REQUIRED = "RUNWARD_REQUIRE_NODE"
"""Set where Node must be there: then its absence is a failure."""
HERE = Path(__file__).parent
OLDER_SDK_PATH = ROOT / ".venv" / "sdk-1.3.0"
NODE_MODULES = ROOT / ".venv" / "sdk-js" / "node_modules"
_SECONDS = 60.0
_JAVASCRIPT = {  # what the SDK for JavaScript calls the arguments
    "workflow_id_or_name": "workflowName",
    "input_variables": "inputVariables",
    "metadata": "metadata",
    "workflow_label_name": "workflowLabelName",
    "workflow_version": "workflowVersion",
    "return_all_outputs": "returnAllOutputs",
}


@dataclass(frozen=True, slots=True)
class SdkResult:
    """Result of an SDK call, or the kind and text of its error."""

    result: Any = None
    error: str | None = None
    text: str = ""


@dataclass(frozen=True, slots=True)
class OfficialSdk:
    """One SDK. `raises`: it raises for a failed run; the asynchronous Python clients return its nodes.

    `many`: how many calls it is asked to make at once.
    """

    name: str
    client: str
    raises_on_failure: bool = True
    parallel_calls: int = 20

    @property
    def javascript(self) -> bool:
        """True for the JavaScript SDK."""
        return self.client == "js"

    async def run(
        self, url: str, *calls: dict[str, Any], key: str = CLIENT_KEYS["one"], pause: float = 0, **env: str
    ) -> list[SdkResult]:
        """Make the calls, each `pause` seconds after the one before it, with the arguments of Python's `run_workflow`.

        Only the environment says where.
        """
        if self.javascript:
            calls = tuple(_javascript_arguments(call) for call in calls)
        settings = {"PROMPTLAYER_BASE_URL": url, "PROMPTLAYER_API_KEY": key, "SSL_CERT_FILE": _ca_file(), **env}
        answer = await _run_driver(self, {"client": self.client, "calls": calls, "pause": pause}, settings)
        return [SdkResult(**made) for made in answer]

    async def run_one(self, url: str, workflow: str | int, /, **call: Any) -> SdkResult:
        """Make one call."""
        [made] = await self.run(url, {"workflow_id_or_name": workflow, **call})
        return made

    def command(self) -> tuple[list[str], dict[str, str]]:
        """Return the command of the driver and its environment."""
        if self.javascript:
            return [*node_command(), str(HERE / "js" / "driver.cjs")], {"NODE_PATH": str(NODE_MODULES)}
        if self.name.startswith("python-1.3.0"):  # -S: nothing but what its own list has
            return [sys.executable, "-S", str(HERE / "driver.py")], {"PYTHONPATH": str(OLDER_SDK_PATH)}
        return [sys.executable, str(HERE / "driver.py")], {}


PYTHON = (
    OfficialSdk("python-sync", "sync"),
    OfficialSdk("python-async", "async", raises_on_failure=False, parallel_calls=200),
    OfficialSdk("python-1.3.0-sync", "sync"),
    OfficialSdk("python-1.3.0-async", "async", raises_on_failure=False),
)
JAVASCRIPT = OfficialSdk("javascript", "js", parallel_calls=200)
ALL_SDKS = (*PYTHON, JAVASCRIPT)


def require_sdk(sdk: OfficialSdk) -> None:
    """Skip the test if this SDK is not installed."""
    if sdk.javascript and not (node_command() and NODE_MODULES.is_dir()):
        missing = "there is no Node 20.10 or newer with npm, or `make test` has not installed the SDK for JavaScript"
        if os.environ.get(REQUIRED):
            pytest.fail(missing)
        pytest.skip(missing)
    if sdk.name.startswith("python-1.3.0") and not (OLDER_SDK_PATH / ".installed").exists():
        pytest.fail("`make test` installs the older SDK")


@cache
def node_command() -> tuple[str, ...]:
    """Return the command of a Node with WebSocket support; empty if there is none."""
    found = shutil.which("node")
    if found is None:
        return ()
    for options in ((), ("--experimental-websocket",)):
        tried = subprocess.run([found, *options, "-p", "typeof WebSocket"], capture_output=True, text=True, check=False)
        if tried.stdout.strip() == "function":
            return (found, *options)
    return ()


def _javascript_arguments(call: dict[str, Any]) -> dict[str, Any]:
    """Convert the arguments: a workflow's id is a text in JavaScript."""
    named = {_JAVASCRIPT[name]: value for name, value in call.items()}
    return named | {"workflowName": str(named["workflowName"])}


@cache
def _ca_file() -> str:
    """Return a file with one CA certificate: the Python SDKs parse all of them for each request (a second in total)."""
    with tempfile.NamedTemporaryFile("w", suffix=".pem", delete=False) as file:
        file.write(certifi.contents().partition("-----END CERTIFICATE-----")[0] + "-----END CERTIFICATE-----\n")
    atexit.register(os.unlink, file.name)
    return file.name


async def _run_driver(sdk: OfficialSdk, asked: object, settings: dict[str, str]) -> list[dict[str, Any]]:
    command, env = sdk.command()
    process = await asyncio.create_subprocess_exec(
        *command, env={"PATH": os.environ.get("PATH", ""), **env, **settings}, limit=16_000_000,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        async with asyncio.timeout(_SECONDS):
            stdout, stderr = await process.communicate(json.dumps(asked).encode())
    except BaseException:
        process.kill()
        await process.communicate()
        raise
    assert 0 == process.returncode, stderr.decode()[-2000:]
    answer: list[dict[str, Any]] = json.loads(stdout.splitlines()[-1])
    return answer
