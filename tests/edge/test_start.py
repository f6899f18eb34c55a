"""A gateway that must not start does not: at once, with the place named and the value not shown (R84)."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml

from providers.contract import JsonValue
from tests.configuration import SECRETS, gateway_config
from tests.edge.world import leaks
from tests.process import DiedError, start_gateway

CANARY = "canary-0a8e11c2"
STUDIO = "providers.prompt_studio.api_key"


def text(**overrides: JsonValue) -> str:
    """The tests' configuration as it stands in the file, changed."""
    return yaml.safe_dump(gateway_config("http://127.0.0.1:1", "http://127.0.0.1:1", **overrides), sort_keys=False)


def key_from(reference: JsonValue) -> str:
    """A configuration that finds Prompt Studio's key there."""
    return text(providers={"prompt_studio": {"api_key": reference}})


MISTAKES: dict[str, tuple[str, dict[str, str], str]] = {
    "missing secret": (key_from({"env": "NOBODY_SET_THIS"}), {}, STUDIO),
    "empty secret": (text(), {"PROMPT_STUDIO_API_KEY": ""}, STUDIO),
    "placeholder": (text(), {"PROMPT_STUDIO_API_KEY": "changeme"}, STUDIO),
    "short secret": (text(), {"PROMPT_STUDIO_API_KEY": CANARY[:7]}, STUDIO),
    "secret in the file": (key_from(CANARY), {}, STUDIO),
    "key, not its hash": (text(clients={"one": {"keys": [{"hash": f"rw_{CANARY}"}]}}), {}, "clients.one.keys[0].hash"),
    "unknown key": (text(server={"prot": CANARY}), {}, "server.prot"),
    "unknown variable": (text(), {"RUNWARD_SERVER__PROT": CANARY}, "RUNWARD_SERVER__PROT"),
    "duplicate route": (text().replace("  layer:\n", f"  studio: {CANARY}\n  layer:\n", 1), {}, "workflows.studio"),
    "unknown adapter": (text(providers={"promptlayer": {"adapter": "x"}}), {}, "providers.promptlayer.adapter"),
}
"""What is wrong: the file, the environment besides the usual one, and the place that has to be named."""


async def refusal(directory: Path, config: str, env: Mapping[str, str]) -> tuple[str, float]:
    """Try to serve it: what is said, exit code first, and after how many seconds."""
    began = time.monotonic()
    with pytest.raises(DiedError) as died:
        await start_gateway(directory, config, {**SECRETS, **env})
    return str(died.value), time.monotonic() - began


@pytest.mark.parametrize("mistake", MISTAKES)
async def test_a_mistake_is_refused_at_once_with_its_place(tmp_path: Path, mistake: str) -> None:
    """R84: exit code not 0 in less than 2 s, on one line; it says where, and never what."""
    config, env, place = MISTAKES[mistake]
    said, seconds = await refusal(tmp_path, config, env)
    if seconds >= 2:  # the machine may have been busy
        said, seconds = await refusal(tmp_path, config, env)
    assert (True, True) == (said.startswith("exit code 2\n"), seconds < 2), said
    assert place in said.replace('"', "")
    assert ([], []) == (leaks(said), [part for part in (CANARY, CANARY[:7]) if part in said])
    assert ("Traceback" in said, said.count("\n") < 6) == (False, True), said


async def test_a_port_that_is_taken_is_said(tmp_path: Path) -> None:
    """R84: not a mistake in the file, and still no traceback."""
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    running = await start_gateway(first, text(), SECRETS)
    try:
        port = int(running.url.rpartition(":")[2])
        with pytest.raises(DiedError, match=r"exit code [12]\n(.*\n)*.*can not listen") as died:
            await start_gateway(second, text(server={"port": port}), SECRETS)
    finally:
        await running.stop()
    assert "Traceback" not in str(died.value)
