"""Real gateways of several processes."""

from __future__ import annotations

import asyncio
import itertools
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Protocol

import pytest
import yaml

from providers.contract import JsonValue
from tests.configuration import KEYS, SECRETS, gateway_config
from tests.faults.upstream import Upstream
from tests.process import ROOT, Gateway


class StartTeam(Protocol):
    """The fixture `team`."""

    async def __call__(self, count: int = 2, **overrides: JsonValue) -> Gateway:
        """Start a supervisor with `count` workers; return once all are ready."""


@pytest.fixture
async def team(tmp_path: Path, upstream: Upstream) -> AsyncIterator[StartTeam]:
    """A factory of gateways with workers. They are stopped at the end, and then searched for secrets (R79)."""
    started: list[Gateway] = []
    numbers = itertools.count(1)

    async def start(count: int = 2, **overrides: JsonValue) -> Gateway:
        path = tmp_path / f"team-{next(numbers)}.yaml"
        path.write_text(yaml.safe_dump(gateway_config(upstream.url, upstream.url, **overrides)))
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.supervisor.host", str(path), str(count),
            cwd=ROOT, env={"PATH": os.environ.get("PATH", ""), **SECRETS}, limit=16_000_000,
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        started.append(Gateway(process))
        started[-1].config = path
        await started[-1].listening()
        return started[-1]

    yield start
    for each in started:
        await each.stop()
    written = "".join(each.stdout + each.stderr for each in started)
    sys.stdout.write(written)  # pytest shows it where a test failed
    assert [] == [name for name, secret in {**SECRETS, **KEYS}.items() if secret in written]
