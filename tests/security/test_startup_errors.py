"""Startup errors: an invalid gateway does not start; the place is named, the value is not shown (R84)."""

from __future__ import annotations

import resource
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml

from providers.contract import JsonValue
from tests.security.gateway_harness import find_leaks
from tests.support.configuration import PROVIDER_SECRETS, gateway_config
from tests.support.process import ROOT, GatewayExitedError, start_gateway

CANARY = "canary-0a8e11c2"
STUDIO = "providers.prompt_studio.api_key"


def config_text(**overrides: JsonValue) -> str:
    """Return the tests' configuration as text, with these changes."""
    return yaml.safe_dump(gateway_config("http://127.0.0.1:1", "http://127.0.0.1:1", **overrides), sort_keys=False)


def key_from(reference: JsonValue) -> str:
    """Return a configuration with this source of Prompt Studio's key."""
    return config_text(providers={"prompt_studio": {"api_key": reference}})


INVALID_CONFIGS: dict[str, tuple[str, dict[str, str], str]] = {
    "missing secret": (key_from({"env": "NOBODY_SET_THIS"}), {}, STUDIO),
    "empty secret": (config_text(), {"PROMPT_STUDIO_API_KEY": ""}, STUDIO),
    "placeholder": (config_text(), {"PROMPT_STUDIO_API_KEY": "changeme"}, STUDIO),
    "short secret": (config_text(), {"PROMPT_STUDIO_API_KEY": CANARY[:7]}, STUDIO),
    "secret in the file": (key_from(CANARY), {}, STUDIO),
    "key, not its hash": (
        config_text(clients={"one": {"keys": [{"hash": f"rw_{CANARY}"}]}}),
        {},
        "clients.one.keys[0].hash",
    ),
    "unknown key": (config_text(server={"prot": CANARY}), {}, "server.prot"),
    "unknown variable": (config_text(), {"RUNWARD_SERVER__PROT": CANARY}, "RUNWARD_SERVER__PROT"),
    "duplicate route": (
        config_text().replace("  layer:\n", f"  studio: {CANARY}\n  layer:\n", 1),
        {},
        "workflows.studio",
    ),
    "unknown adapter": (config_text(providers={"promptlayer": {"adapter": "x"}}), {}, "providers.promptlayer.adapter"),
}
"""The error: the file, additional environment variables, and the location that the message must name."""


async def startup_error(directory: Path, config: str, env: Mapping[str, str]) -> tuple[str, float]:
    """Start the gateway; returns exit code, output and CPU time in seconds."""
    before = children_cpu_seconds()
    with pytest.raises(GatewayExitedError) as died:
        await start_gateway(directory, config, {**PROVIDER_SECRETS, **env})
    return str(died.value), children_cpu_seconds() - before


def children_cpu_seconds() -> float:
    """Return the CPU time of all child processes that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


@pytest.fixture(scope="module")
def import_seconds() -> float:
    """CPU time of importing the gateway, for comparison on the same machine."""
    before = children_cpu_seconds()
    subprocess.run([sys.executable, "-c", "import gateway.app.bootstrap, gateway.cli"], cwd=ROOT, check=True)
    return children_cpu_seconds() - before


@pytest.mark.parametrize("mistake", INVALID_CONFIGS)
async def test_an_invalid_configuration_is_refused_with_its_location(
    tmp_path: Path, mistake: str, import_seconds: float
) -> None:
    """R84: exit code not 0, soon after the imports, one line; it has the location, never the value."""
    config, env, location = INVALID_CONFIGS[mistake]
    output, seconds = await startup_error(tmp_path, config, env)
    assert output.startswith("exit code 2\n")
    assert seconds < 4 * import_seconds
    assert location in output.replace('"', "")
    assert ([], []) == (find_leaks(output), [part for part in (CANARY, CANARY[:7]) if part in output])
    assert ("Traceback" in output, output.count("\n") < 6) == (False, True), output


async def test_a_port_that_is_taken_is_said(tmp_path: Path) -> None:
    """R84: not an error of the file, and no traceback."""
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    running = await start_gateway(first, config_text(), PROVIDER_SECRETS)
    try:
        port = int(running.url.rpartition(":")[2])
        with pytest.raises(GatewayExitedError, match=r"exit code [12]\n(.*\n)*.*cannot listen") as died:
            await start_gateway(second, config_text(server={"port": port}), PROVIDER_SECRETS)
    finally:
        await running.stop()
    assert "Traceback" not in str(died.value)
