"""Fixtures: gateways with several worker processes."""

from __future__ import annotations

import itertools
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Protocol

import pytest
import yaml

from providers.contract import JsonValue
from tests.support.configuration import CLIENT_KEYS, PROVIDER_SECRETS, gateway_config
from tests.support.fake_upstream.upstream import FakeUpstream
from tests.support.log_lines import deviations, lines_in
from tests.support.process import GatewayProcess
from tests.support.waiting import wait_until


class StartWorkers(Protocol):
    """Type of the fixture `start_workers`."""

    async def __call__(self, count: int = 2, **overrides: JsonValue) -> GatewayProcess:
        """Start a supervisor with `count` workers; return once all are ready."""


@pytest.fixture
async def start_workers(tmp_path: Path, upstream: FakeUpstream) -> AsyncIterator[StartWorkers]:
    """Factory of gateways with workers. They are stopped at the end, and their output is searched for secrets (R79)."""
    started: list[GatewayProcess] = []
    numbers = itertools.count(1)

    async def start(count: int = 2, **overrides: JsonValue) -> GatewayProcess:
        path = tmp_path / f"workers-{next(numbers)}.yaml"
        path.write_text(yaml.safe_dump(gateway_config(upstream.url, upstream.url, **overrides)))
        directory = tmp_path / path.stem
        directory.mkdir()
        command = [sys.executable, "-m", "tests.supervisor.run_supervisor", str(path), str(count)]
        started.append(GatewayProcess(command, directory, PROVIDER_SECRETS))
        started[-1].config = path
        gateway = started[-1]
        await gateway.wait_until_listening()
        # Each process writes its lines in a thread, so `ready` of a worker may follow `listening` of the supervisor.
        await wait_until(lambda: len(gateway.logs("ready")) >= count)
        return gateway

    yield start
    for each in started:
        await each.stop()
    written = "".join(each.stdout + each.stderr for each in started)
    sys.stdout.write(written)  # pytest shows it where a test failed
    assert [] == [name for name, secret in {**PROVIDER_SECRETS, **CLIENT_KEYS}.items() if secret in written]
    assert [] == deviations(lines_in(written))
