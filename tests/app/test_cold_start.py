"""Modules that a gateway imports to start: they take most of the time until it is ready."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
import yaml

from tests.support.configuration import PROVIDER_SECRETS, gateway_config
from tests.support.process import ROOT, inherited_environment

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_MODULES = 620
"""Modules of a gateway with the SQLite store, and of its libraries without the standard one."""

# What `runward serve` executes, up to the moment at which the ports are open.
START = """
import asyncio, json, sys
from pathlib import Path
import gateway.__main__
import gateway.cli.serve
from gateway.app.bootstrap import start_gateway
from gateway.clock import SystemClock
from gateway.observability import json_logging
from gateway.settings import ConfigFiles

async def main():
    settings, clock = ConfigFiles(Path(sys.argv[1])).load(), SystemClock()
    gateway = await start_gateway(settings, clock, json_logging.configure("error", "json", clock))
    modules = sorted(sys.modules)
    await gateway.close()
    print(json.dumps(modules))

asyncio.run(main())
"""

UNNEEDED = {
    "redis": "store.url: redis://",
    "gateway.redis": "store.url: redis://",
    "gateway.store.redis": "store.url: redis://",
    "gateway.limits.redis": "store.url: redis://",
    "gateway.store.memory": "store.url: memory://",
    "cryptography": "content.encrypt",
    "jwt": "issuers",
    "opentelemetry": "tracing.enabled",
    "gateway.observability.tracing.otel_tracer": "tracing.enabled",
    "structlog": "logs.format: console",
    "rich": "output for people",
    "pydantic_settings": "settings in variables",
    "watchfiles": "imported by the watcher once the ports are open",
    "anyio": "a dependency of watchfiles",
    "gateway.api.docs.document": "built at the first request of /openapi.json",
    "gateway.api.admin.openapi": "built at the first request of /openapi.json on the operations port",
    "gateway.supervisor": "--workers",
    "gateway.cli.commands": "commands other than those of a server",
    "gateway.cli.operations": "commands for a running gateway",
    "gateway.sandbox": "runward demo",
    "gateway.cli.demo": "runward demo",
    "promptlayer": "for tests only",
}
"""Packages that the configuration does not need, and what needs them."""


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Names of the modules that a start imports, in a fresh interpreter."""
    folder = tmp_path_factory.mktemp("cold-start")
    path = folder / "gateway.yaml"
    config = gateway_config("http://127.0.0.1:1", "http://127.0.0.1:2", store={"url": f"sqlite:///{folder}/runs.db"})
    path.write_text(yaml.safe_dump(config))
    environment: Mapping[str, str] = {**inherited_environment(), **PROVIDER_SECRETS}
    started = subprocess.run(
        [sys.executable, "-c", START, str(path)],
        cwd=ROOT,
        env=environment,
        check=True,
        capture_output=True,
        timeout=100,
    )
    modules: list[str] = json.loads(started.stdout)
    return modules


@pytest.mark.process
@pytest.mark.parametrize("package", UNNEEDED)
def test_a_start_does_not_import(package: str, imported: list[str]) -> None:
    """What only other configurations need is imported by them."""
    assert "gateway.store.sqlite.store" in imported
    assert [] == [name for name in imported if name == package or name.startswith(f"{package}.")]


@pytest.mark.process
def test_a_start_imports_a_bounded_number_of_modules(imported: list[str]) -> None:
    """A new dependency that every start pays for is noticed. Raise the number if it is worth its time."""
    counted = [name for name in imported if name.partition(".")[0] not in {*sys.stdlib_module_names, "coverage"}]
    assert len(counted) <= MAX_MODULES, f"{len(counted)} modules"
